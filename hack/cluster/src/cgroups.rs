//! The cgroups of a cluster: one at the root of every hierarchy, whether the machine has v1 controllers, v2, or both.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A mounted cgroup file system.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    mount_point: PathBuf,
    unified: bool,
}

/// Every hierarchy in a `/proc/self/mountinfo`.
fn hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let unified = match after.split(' ').next() {
            Some("cgroup") => false,
            Some("cgroup2") => true,
            _ => continue,
        };
        let Some(mount_point) = before.split(' ').nth(4).map(PathBuf::from) else { continue };
        if found.iter().all(|known| known.mount_point != mount_point) {
            found.push(Hierarchy { mount_point, unified });
        }
    }
    found
}

fn mounted() -> Result<Vec<Hierarchy>> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").context("reading /proc/self/mountinfo")?;
    Ok(hierarchies(&mountinfo))
}

/// Makes the cgroup `name` in every hierarchy, ready for a kubelet to put pods in.
pub(crate) fn create(name: &str) -> Result<()> {
    create_in(&mounted()?, name)
}

fn create_in(hierarchies: &[Hierarchy], name: &str) -> Result<()> {
    if hierarchies.is_empty() {
        bail!("no cgroup file system is mounted: the kubelet needs /sys/fs/cgroup");
    }
    let only_unified = hierarchies.iter().all(|hierarchy| hierarchy.unified);
    for hierarchy in hierarchies {
        // Beside v1 controllers, v2 has none that the kubelet would use: runc makes what it needs there itself.
        if hierarchy.unified && !only_unified {
            continue;
        }
        if hierarchy.unified {
            delegate_controllers(&hierarchy.mount_point);
        }
        let group = hierarchy.mount_point.join(name);
        match fs::create_dir(&group) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("making the cgroup {}", group.display()));
            }
            _ => {}
        }
        if !hierarchy.unified {
            inherit_cpuset(&hierarchy.mount_point, &group)?;
        } else {
            delegate_controllers(&group);
        }
    }
    Ok(())
}

/// Hands every controller of a v2 cgroup to its children. The kubelet checks that the ones it needs have arrived and
/// names those that have not, so a refusal here needs no report of its own.
fn delegate_controllers(group: &Path) {
    let controllers = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
    for controller in controllers.split_whitespace() {
        let _refused = fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// A new v1 cpuset is empty, and no process can enter it before it has CPUs and memory nodes.
fn inherit_cpuset(parent: &Path, group: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        match fs::read_to_string(parent.join(file)) {
            Ok(value) => fs::write(group.join(file), value.trim_end())
                .with_context(|| format!("writing {}", group.join(file).display()))?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("reading {}", parent.join(file).display())),
        }
    }
    Ok(())
}

/// Removes the cgroup `name` and all below it from every hierarchy. Its processes must have been killed: the kernel
/// may take a moment to count them out, which is waited for up to `patience`.
pub(crate) fn remove(name: &str, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    for hierarchy in mounted()? {
        let group = hierarchy.mount_point.join(name);
        loop {
            match remove_tree(&group) {
                Ok(()) => break,
                Err(error) if Instant::now() >= deadline => {
                    return Err(error).with_context(|| format!("removing the cgroup {}", group.display()));
                }
                Err(_) => sleep(Duration::from_millis(20)),
            }
        }
    }
    Ok(())
}

/// The files of a cgroup cannot be removed, only its directories, the deepest first.
fn remove_tree(group: &Path) -> std::io::Result<()> {
    let entries = match fs::read_dir(group) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

/// The names of all cgroups at the root of any hierarchy that begin with `prefix`.
pub(crate) fn named(prefix: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for hierarchy in mounted()? {
        let entries = fs::read_dir(&hierarchy.mount_point)
            .with_context(|| format!("listing {}", hierarchy.mount_point.display()))?;
        for name in entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
            if name.starts_with(prefix) && !names.contains(&name) {
                names.push(name);
            }
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_a_hybrid_and_of_a_v2_machine() {
        let hybrid = "\
24 1 0:22 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
25 24 0:23 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
26 24 0:24 / /sys/fs/cgroup/unified rw,relatime shared:4 - cgroup2 cgroup2 rw
27 1 0:25 / /proc rw - proc proc rw";
        let found = hierarchies(hybrid);
        assert_eq!(
            found,
            [
                Hierarchy { mount_point: "/sys/fs/cgroup/cpu".into(), unified: false },
                Hierarchy { mount_point: "/sys/fs/cgroup/unified".into(), unified: true },
            ]
        );
        let pure = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(hierarchies(pure), [Hierarchy { mount_point: "/sys/fs/cgroup".into(), unified: true }]);
    }

    #[test]
    fn a_v1_cpuset_gets_what_its_parent_has() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cpuset.cpus"), "0-1\n").unwrap();
        fs::write(root.path().join("cpuset.mems"), "0\n").unwrap();
        create_in(&[Hierarchy { mount_point: root.path().into(), unified: false }], "mine").unwrap();
        assert_eq!(fs::read_to_string(root.path().join("mine/cpuset.cpus")).unwrap(), "0-1");
        assert_eq!(fs::read_to_string(root.path().join("mine/cpuset.mems")).unwrap(), "0");
    }

    #[test]
    fn v2_is_used_and_delegated_only_where_it_is_alone() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(one.path().join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        let unified = Hierarchy { mount_point: one.path().into(), unified: true };
        let v1 = Hierarchy { mount_point: two.path().into(), unified: false };

        create_in(&[v1, unified.clone()], "mine").unwrap();
        assert!(two.path().join("mine").is_dir());
        assert!(!one.path().join("mine").exists());

        create_in(&[unified], "mine").unwrap();
        assert!(one.path().join("mine").is_dir());
        // A plain file keeps the last write; the kernel takes each.
        assert_eq!(fs::read_to_string(one.path().join("cgroup.subtree_control")).unwrap(), "+pids");
    }
}
