//! Keeps the driver's libraries from making device nodes in a container.
//!
//! They make a node for every GPU of the host when the kernel module's parameters allow it, as they do by default.
//! The container cannot open the nodes that it was not given, but it has them, and programs count them. NVIDIA's own hook
//! shows the container other parameters (`disable-device-node-modification`), and so do we.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use crate::RootDirectory;

/// The parameters of the kernel module.
const PARAMETERS: &str = "/proc/driver/nvidia/params";
/// Their directory.
const DIRECTORY: &str = "/proc/driver/nvidia";
const LARGEST: u64 = 1 << 20;

/// Mounts parameters that say "make no nodes" over those in the container. Does nothing where there are none, or where
/// they say so.
pub(crate) fn leave_as_given(root: &RootDirectory) -> io::Result<()> {
    let Some(there) = root.read(PARAMETERS, LARGEST)? else { return Ok(()) };
    let there = String::from_utf8_lossy(&there).into_owned();
    let changed = without_modification(&there);
    if changed == there {
        return Ok(());
    }
    // Both are held by handle, and so are what they were, whatever lies over them for a moment.
    let (directory, file) = (
        root.open_at(DIRECTORY.as_ref(), OFlags::PATH | OFlags::DIRECTORY)?,
        root.open_at(PARAMETERS.as_ref(), OFlags::PATH)?,
    );
    let memory = file_system()?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let mut content = File::from(rustix::fs::openat(&memory, "params", flags, Mode::from_raw_mode(0o444))?);
    content.write_all(changed.as_bytes())?;
    drop(content);
    // Kernels before 6.15 make no mount of a part of a file system that is not itself mounted. So it is, for a moment, over
    // the directory: nobody else is in this namespace yet.
    attach(&memory, &directory)?;
    let mounted = over(&memory, &file);
    rustix::mount::unmount(link(&memory), UnmountFlags::DETACH)?;
    mounted
}

/// Mounts the one file of the file system over the other one.
fn over(memory: &OwnedFd, file: &OwnedFd) -> io::Result<()> {
    let tree = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let content = rustix::mount::open_tree(memory, "params", tree)?;
    attach(&content, file)?;
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(rustix::mount::mount_remount(link(&content), flags, c"")?)
}

/// A new file system in memory, mounted nowhere.
fn file_system() -> io::Result<OwnedFd> {
    let context = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, "size", "64k")?;
    rustix::mount::fsconfig_create(&context)?;
    let attributes =
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

fn attach(what: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(what, "", to, "", flags)?)
}

/// A path to an open file that leads through nothing else.
fn link(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn without_modification(parameters: &str) -> String {
    let line = |line: &str| match line.split_once(':') {
        Some(("ModifyDeviceFiles", _)) => "ModifyDeviceFiles: 0\n".to_owned(),
        _ => format!("{line}\n"),
    };
    parameters.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_parameter_changes() {
        let before = "ModifyDeviceFiles: 1\nDeviceFileUID: 0\n";
        let after = "ModifyDeviceFiles: 0\nDeviceFileUID: 0\n";
        assert_eq!(without_modification(before), after);
        assert_eq!(without_modification(after), after);
    }
}
