//! The files of a machine: which ones there are ([`tree`]) and how they get onto the disk ([`apply`]).

mod apply;
mod capability;
mod dev;
mod pci;
mod proc;
mod sysfs;
mod tree;

use std::path::Path;

use crate::error::Result;
use crate::hardware::Hardware;
use tree::{Content, Entry};

pub use apply::SYSFS_BELOW_KERNEL;
pub(crate) use dev::{FIRST_GPU, MAX_MINOR, is_of_no_gpu};

/// Where the driver's libraries lie on x86-64 Debian and Ubuntu, also on machines that stand for others: the library
/// must load on the machine that the test runs on.
pub(crate) const LIBRARY_DIRECTORY: &str = "usr/lib/x86_64-linux-gnu";

/// Brings the files below `root` in line with the state. `library` is copied if given; otherwise the copy that is
/// already there stays, under the name that the driver's version asks for.
pub(crate) fn render(root: &Path, hardware: &Hardware, library: Option<&Path>) -> Result<()> {
    apply::apply(root, &files(hardware), library)
}

/// All files of a machine in this state.
fn files(hardware: &Hardware) -> Vec<Entry> {
    let mut entries = if hardware.has_driver() { libraries(hardware) } else { Vec::new() };
    entries.extend(sysfs::files(hardware));
    if hardware.has_driver() {
        entries.extend(proc::files(hardware));
    }
    entries.extend(dev::files(hardware));
    entries.extend(capability::files(hardware));
    entries.extend(instance(hardware));
    entries
}

/// A device node that the machine has, whichever.
pub(crate) fn some_node(hardware: &Hardware) -> Option<String> {
    dev::files(hardware).into_iter().map(|entry| entry.path).next_back()
}

/// What the instance is told of its TPUs.
fn instance(hardware: &Hardware) -> Option<Entry> {
    let lines: String = hardware.instance.iter().map(|(key, value)| format!("{key}: '{value}'\n")).collect();
    (!lines.is_empty()).then(|| Entry::new("etc/tpu/tpu-env", Content::Text(lines)))
}

fn libraries(hardware: &Hardware) -> Vec<Entry> {
    let versioned = format!("libnvidia-ml.so.{}", hardware.driver.version);
    vec![
        Entry::new(format!("{LIBRARY_DIRECTORY}/{versioned}"), Content::Library),
        Entry::link(format!("{LIBRARY_DIRECTORY}/libnvidia-ml.so.1"), versioned),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Profile;

    fn listing(profile: &str) -> String {
        let hardware = Profile::named(profile).unwrap().hardware();
        files(&hardware).iter().map(|entry| format!("{entry}\n")).collect()
    }

    #[test]
    fn tree_of_a_mixed_node() {
        insta::assert_snapshot!(listing("mixed"));
    }

    #[test]
    fn tree_of_a_tray() {
        insta::assert_snapshot!(listing("gb200"));
    }

    #[test]
    fn tree_of_a_tpu() {
        insta::assert_snapshot!(listing("tpu-v5e-1"));
    }

    #[test]
    fn tpus_of_a_driver_of_googles() {
        let files = listing("tpu-v4");
        insta::assert_snapshot!(files.lines().filter(|line| line.contains("accel")).collect::<Vec<_>>().join("\n"));
    }

    /// Only what comes with the instances: files of capabilities and their nodes.
    #[test]
    fn capabilities_of_a_cut_gpu() {
        let mut hardware = Profile::named("a100-h100").unwrap().hardware();
        hardware.set_mig_mode(1, true).unwrap();
        let parent = hardware.create_gpu_instance(1, 9, None).unwrap();
        hardware.create_compute_instance(parent, 0, None).unwrap();
        hardware.create_compute_instance(parent, 1, None).unwrap_err();
        hardware.create_compute_instance(parent, 0, None).unwrap();
        let files = files(&hardware);
        let files = files.iter().filter(|file| file.path.contains("cap"));
        insta::assert_snapshot!(files.map(|file| format!("{file}\n")).collect::<String>());
    }

    #[test]
    fn an_unplugged_gpu_leaves_no_file() {
        let mut hardware = Profile::named("dgx-h100").unwrap().hardware();
        let gone = hardware.gpus[3].pci.to_string();
        let mentions = |hardware: &Hardware| files(hardware).iter().filter(|file| file.path.contains(&gone)).count();
        assert!(mentions(&hardware) > 10);
        hardware.gpus[3].present = false;
        assert_eq!(mentions(&hardware), 0);
        assert!(!files(&hardware).iter().any(|entry| entry.path == "dev/nvidia3"));
        assert!(files(&hardware).iter().any(|entry| entry.path == "dev/nvidia4"));
    }

    #[test]
    fn no_path_comes_twice() {
        for profile in Profile::names() {
            let mut paths: Vec<_> =
                files(&Profile::named(profile).unwrap().hardware()).into_iter().map(|entry| entry.path).collect();
            let all = paths.len();
            paths.sort();
            paths.dedup();
            assert_eq!(paths.len(), all, "{profile}");
        }
    }
}
