//! Who has a device open.

use std::fmt;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::Container;

/// A process that has a device open. While there is one, the driver does not let go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number, in the PID namespace whose `/proc` was read.
    pub pid: u32,
    /// Its name, at most 15 bytes.
    pub name: String,
    /// Where it runs, if in a container of Kubernetes.
    pub container: Option<Container>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {}", self.name, self.pid)?;
        if let Some(container) = &self.container {
            write!(f, ", {container}")?;
        }
        f.write_str(")")
    }
}

/// The processes that have one of these nodes open, by whatever path: a container has nodes of its own for the same
/// device, so it is the device's number that counts. What cannot be read holds nothing: processes end while they are
/// looked at. Our own process counts too; NVML keeps the nodes of its GPUs open.
pub(super) fn holders(processes: &Path, nodes: &[impl AsRef<Path>]) -> Vec<Holder> {
    let devices: Vec<u64> = nodes.iter().filter_map(|node| device(node.as_ref())).collect();
    let Ok(entries) = fs::read_dir(processes) else { return Vec::new() };
    if devices.is_empty() {
        return Vec::new();
    }
    let mut holders: Vec<Holder> = entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let process = entry.path();
            has_open(&process, &devices).then(|| Holder {
                pid,
                name: fs::read_to_string(process.join("comm")).unwrap_or_default().trim_end().to_owned(),
                container: fs::read_to_string(process.join("cgroup")).ok().and_then(|text| Container::of(&text)),
            })
        })
        .collect();
    holders.sort_by_key(|holder| holder.pid);
    holders
}

fn has_open(process: &Path, devices: &[u64]) -> bool {
    fs::read_dir(process.join("fd")).into_iter().flatten().flatten().any(|file| {
        // Only what is in some dev/ is looked at: a look at a file of a dead file server would never return. A node that
        // a process has made elsewhere is missed here, and the kernel still waits for it.
        fs::read_link(file.path()).is_ok_and(|target| target.iter().any(|part| part == "dev"))
            && device(&file.path()).is_some_and(|number| devices.contains(&number))
    })
}

/// The number of a character device.
fn device(node: &Path) -> Option<u64> {
    fs::metadata(node).ok().filter(|data| data.file_type().is_char_device()).map(|data| data.rdev())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_found_by_the_device_and_not_by_the_path() {
        let node = fs::File::open("/dev/full").unwrap();
        let mut process = Command::new("sleep").arg("60").stdin(Stdio::from(node)).spawn().unwrap();
        let find = || holders(Path::new("/proc"), &["/dev/full", "/dev/absent"]);
        let found = find();
        process.kill().unwrap();
        process.wait().unwrap();
        let ours = found.iter().find(|holder| holder.pid == process.id()).unwrap();
        assert!(ours.to_string().contains(&format!("(pid {}", process.id())), "{ours}");
        assert!(find().iter().all(|holder| holder.pid != process.id()));
        assert_eq!(holders(Path::new("/proc"), &["/dev/absent"]), []);
        assert_eq!(holders(Path::new("/absent"), &["/dev/full"]), []);
    }
}
