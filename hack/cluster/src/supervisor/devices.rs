//! A /dev of the node's own, so that device nodes made for it never appear on the host.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::mount::{MountFlags, mount, mount_bind_recursive, mount_move};

use super::mounts::make_directory;

/// Made anew, where the host has them. The kubelet reads kmsg to notice out-of-memory kills.
const NODES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty", "kmsg", "fuse", "net/tun"];

/// Taken over from the host with all that is in them.
const DIRECTORIES: &[&str] = &["pts", "shm", "mqueue", "hugepages"];

const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Builds the new /dev aside and moves it over the old one.
pub(super) fn furnish() -> Result<()> {
    let aside = Path::new("/run/dev");
    make_directory(aside)?;
    mount("tmpfs", aside, "tmpfs", MountFlags::NOSUID, Some(c"mode=755")).context("mounting a file system for /dev")?;
    for name in NODES {
        copy_node(&Path::new("/dev").join(name), &aside.join(name))?;
    }
    for name in DIRECTORIES {
        let source = Path::new("/dev").join(name);
        if source.is_dir() {
            let target = aside.join(name);
            make_directory(&target)?;
            mount_bind_recursive(&source, &target).with_context(|| format!("binding {}", source.display()))?;
        }
    }
    for (name, target) in LINKS {
        symlink(target, aside.join(name)).with_context(|| format!("linking /dev/{name}"))?;
    }
    mount_move(aside, "/dev").context("moving the new /dev into place")?;
    fs::remove_dir(aside).context("removing the place where /dev was made")
}

fn copy_node(source: &Path, target: &Path) -> Result<()> {
    let metadata = match fs::metadata(source) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("looking at {}", source.display())),
    };
    if let Some(parent) = target.parent() {
        make_directory(parent)?;
    }
    mknodat(CWD, target, FileType::CharacterDevice, Mode::RUSR, metadata.rdev())
        .with_context(|| format!("making {}", target.display()))?;
    // Not through mknod's mode: that one is subject to the umask.
    fs::set_permissions(target, fs::Permissions::from_mode(metadata.mode() & 0o777))
        .with_context(|| format!("setting the mode of {}", target.display()))
}
