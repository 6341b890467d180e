//! Brings a directory in line with a list of files.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::tree::{Content, Entry};
use super::{LIBRARY_DIRECTORY, dev};
use crate::error::{Error, Result};

/// The list of files that were rendered last, so that the next time knows what to take away without touching what
/// others have put below the root.
const MANIFEST: &str = "hardware.files";

/// Where `sys/` lies below the root of a machine while a simulated kernel shows a living sysfs in its place
/// (`simulated-sysfs`): what is rendered here is what that kernel finds on the bus.
pub const SYSFS_BELOW_KERNEL: &str = "hardware.sys";

/// The file that a path of the list stands for.
fn place(root: &Path, path: &str) -> PathBuf {
    let below = root.join(SYSFS_BELOW_KERNEL);
    match path.strip_prefix("sys/") {
        Some(rest) if below.is_dir() => below.join(rest),
        _ => root.join(path),
    }
}

/// Makes what is missing or differs, and takes away what was made before and is no longer listed.
pub(super) fn apply(root: &Path, entries: &[Entry], library: Option<&Path>) -> Result<()> {
    let manifest = root.join(MANIFEST);
    let before = fs::read_to_string(&manifest).unwrap_or_default();
    for entry in entries {
        let path = place(root, &entry.path);
        let made = match path.parent() {
            Some(parent) => fs::create_dir_all(parent),
            None => Ok(()),
        };
        made.and_then(|()| put(root, &path, &entry.content, library)).map_err(Error::file("make", &path))?;
    }
    let listed: BTreeSet<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
    for gone in before.lines().filter(|line| !listed.contains(line)) {
        take_away(root, gone)?;
    }
    let text: String = listed.iter().map(|path| format!("{path}\n")).collect();
    put(root, &manifest, &Content::Text(text), None).map_err(Error::file("write", &manifest))
}

fn put(root: &Path, path: &Path, content: &Content, library: Option<&Path>) -> io::Result<()> {
    match content {
        Content::Text(text) if fs::read(path).is_ok_and(|there| there == text.as_bytes()) => Ok(()),
        Content::Text(text) => replace(path, |aside| fs::write(aside, text)),
        Content::Bytes(bytes) if fs::read(path).is_ok_and(|there| there == *bytes) => Ok(()),
        Content::Bytes(bytes) => replace(path, |aside| fs::write(aside, bytes)),
        Content::Link(target) if fs::read_link(path).is_ok_and(|there| there == Path::new(target)) => Ok(()),
        Content::Link(target) => replace(path, |aside| symlink(target, aside)),
        Content::Device(minor) if is_device(path, *minor) => Ok(()),
        Content::Device(minor) => replace(path, |aside| device(aside, *minor)),
        Content::Library => put_library(root, path, library),
    }
}

/// Makes the new file aside and renames it: a reader never sees half of it, and a process that has the old library
/// mapped keeps the old one.
fn replace(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".aside");
    let aside = PathBuf::from(aside);
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    make(&aside)?;
    fs::rename(&aside, path)
}

/// A copy, never a link: the dynamic loader takes files with one inode for one library, and two machines in one process
/// need two.
fn put_library(root: &Path, path: &Path, library: Option<&Path>) -> io::Result<()> {
    match library {
        Some(library) => replace(path, |aside| fs::copy(library, aside).map(|_| ())),
        None if path.is_file() => Ok(()),
        // The driver's version has changed: the copy that the old version's link still points to.
        None => {
            let there = fs::canonicalize(root.join(LIBRARY_DIRECTORY).join("libnvidia-ml.so.1"))?;
            replace(path, |aside| fs::copy(&there, aside).map(|_| ()))
        }
    }
}

fn is_device(path: &Path, minor: u32) -> bool {
    fs::symlink_metadata(path).is_ok_and(|data| {
        data.file_type().is_char_device() && data.rdev() == makedev(dev::MAJOR, minor)
            || data.is_file() && !may_make_devices(path)
    })
}

/// Whether this process may make device nodes where `path` is. Only root outside user namespaces may, so it is tried.
fn may_make_devices(path: &Path) -> bool {
    let mut probe = path.as_os_str().to_owned();
    probe.push(".probe");
    let made = mknodat(CWD, Path::new(&probe), FileType::CharacterDevice, Mode::RUSR, makedev(dev::MAJOR, 0)).is_ok();
    if made {
        // Left behind only if somebody else removed it.
        let _ = fs::remove_file(&probe);
    }
    made
}

fn device(path: &Path, minor: u32) -> io::Result<()> {
    let mode = Mode::from_raw_mode(0o666);
    match mknodat(CWD, path, FileType::CharacterDevice, mode, makedev(dev::MAJOR, minor)) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(0o666)),
        Err(rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => fs::write(path, ""),
        Err(error) => Err(error.into()),
    }
}

/// Removes a file and the directories that it leaves empty.
fn take_away(root: &Path, gone: &str) -> Result<()> {
    let path = place(root, gone);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::file("remove", &path)(error)),
        _ => {}
    }
    // Stops at the first directory that still holds something, at the latest at the root with its state file.
    for directory in path.ancestors().skip(1).take_while(|directory| *directory != root) {
        if fs::remove_dir(directory).is_err() {
            break;
        }
    }
    Ok(())
}
