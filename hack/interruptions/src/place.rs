//! Where a system call changes something.

use std::fs;
use std::path::{Path, PathBuf};

use nix::libc;
use nix::unistd::Pid;

use crate::Point;
use crate::calls::{Call, Only, Place, WRITING};
use crate::entry::Entry;

/// The directories below which changes count.
#[derive(Debug)]
pub(crate) struct Directories(Vec<PathBuf>);

impl Directories {
    /// Directories that may not be there yet, but those above them must.
    pub(crate) fn new(directories: &[PathBuf]) -> Self {
        Self(directories.iter().map(|directory| resolved(directory)).collect())
    }

    /// The point at which a process is, if its call changes something below one of the directories.
    pub(crate) fn point(&self, process: Pid, entry: &Entry) -> Option<Point> {
        let call = Call::of(entry.number())?;
        if !changes(&call, entry) {
            return None;
        }
        let paths: Vec<_> = call.places.iter().filter_map(|place| path(process, entry, *place)).collect();
        let watched = |path: &PathBuf| self.0.iter().any(|directory| path.starts_with(directory));
        let counts = call.places.is_empty() || paths.iter().any(watched);
        counts.then_some(Point { call: call.name, change: call.change, paths })
    }
}

fn changes(call: &Call, entry: &Entry) -> bool {
    match call.only() {
        Only::Always => true,
        Only::Opened(flags) => entry.argument(flags) & WRITING != 0,
        Only::OpenedAs(how) => entry.number_at(how).is_some_and(|flags| flags & WRITING != 0),
        Only::Shared => {
            let (protection, flags) = (entry.argument(2), entry.argument(3));
            let (write, shared) = (libc::PROT_WRITE as u64, libc::MAP_SHARED as u64);
            protection & write != 0 && flags & shared != 0 && flags & libc::MAP_ANONYMOUS as u64 == 0
        }
    }
}

fn path(process: Pid, entry: &Entry, place: Place) -> Option<PathBuf> {
    match place {
        Place::Path(path) => named(process, libc::AT_FDCWD, entry.path(path)),
        Place::At(directory, path) => named(process, entry.descriptor(directory), entry.path(path)),
        Place::Descriptor(descriptor) => opened(process, entry.descriptor(descriptor)),
    }
}

fn named(process: Pid, directory: i32, path: Option<PathBuf>) -> Option<PathBuf> {
    match path {
        Some(path) if path.is_absolute() => Some(resolved(&path)),
        Some(path) if path.as_os_str().is_empty() => opened(process, directory),
        Some(path) => Some(resolved(&opened(process, directory)?.join(path))),
        None => opened(process, directory),
    }
}

/// What a descriptor is open on. For what is no file, a name that is no path.
fn opened(process: Pid, descriptor: i32) -> Option<PathBuf> {
    match descriptor {
        libc::AT_FDCWD => fs::read_link(format!("/proc/{process}/cwd")).ok(),
        _ => fs::read_link(format!("/proc/{process}/fd/{descriptor}")).ok(),
    }
}

/// A path with every link above its last name followed, which is how the kernel names what a descriptor is open on.
fn resolved(path: &Path) -> PathBuf {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return path.to_owned() };
    fs::canonicalize(parent).unwrap_or_else(|_| resolved(parent)).join(name)
}
