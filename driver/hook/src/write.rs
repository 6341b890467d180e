//! Changes in a container's root, each of them whole or not at all, and none of them outside of it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::process;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::RootDirectory;

/// The mode of files: the image's users read them. The umask does not count.
const FILE: Mode = Mode::from_raw_mode(0o644);
const DIRECTORY: Mode = Mode::from_raw_mode(0o755);

impl RootDirectory {
    /// Puts a file with this content in place of whatever file or link is at the path.
    pub(crate) fn put_file(&self, path: &str, content: &[u8]) -> io::Result<()> {
        let (directory, name) = self.place(path)?;
        replace(&directory, name, |aside| {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(rustix::fs::openat(&directory, aside, flags, FILE)?);
            file.write_all(content)?;
            Ok(rustix::fs::fchmod(&file, FILE)?)
        })
    }

    /// Puts a link to `target`, as it stands, in place of whatever file or link is at the path.
    pub(crate) fn put_link(&self, path: &str, target: &str) -> io::Result<()> {
        let (directory, name) = self.place(path)?;
        if rustix::fs::readlinkat(&directory, name, Vec::new()).is_ok_and(|there| there.as_bytes() == target.as_bytes())
        {
            return Ok(());
        }
        replace(&directory, name, |aside| Ok(rustix::fs::symlinkat(target, &directory, aside)?))
    }

    /// The directory that the file at the path is or will be in, and the file's name there.
    fn place<'a>(&self, path: &'a str) -> io::Result<(OwnedFd, &'a OsStr)> {
        let path = Path::new(path);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"));
        };
        Ok((self.make_directory(parent)?, name))
    }

    /// Opens the directory; makes it, and those above it, where they are missing.
    fn make_directory(&self, path: &Path) -> io::Result<OwnedFd> {
        let open = |path: &Path| self.open_at(path, OFlags::PATH | OFlags::DIRECTORY);
        match open(path) {
            Err(Errno::NOENT) => {}
            result => return Ok(result?),
        }
        let mut reached = PathBuf::from("/");
        let mut directory = open(&reached)?;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            reached.push(name);
            directory = match open(&reached) {
                Err(Errno::NOENT) => {
                    match rustix::fs::mkdirat(&directory, name, DIRECTORY) {
                        // A link that leads nowhere is there too; the next open says so.
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                    open(&reached)?
                }
                result => result?,
            };
        }
        Ok(directory)
    }
}

/// Makes something under a name that nobody uses and renames it. What was there is replaced and never followed.
fn replace(directory: &OwnedFd, name: &OsStr, make: impl Fn(&str) -> io::Result<()>) -> io::Result<()> {
    // The names of a hook that was ended half-way may be taken: in a container's namespace ids of processes come again.
    let mut number = 0_u32;
    let aside = loop {
        let aside = format!(".tessera-{}-{number}", process::id());
        match make(&aside) {
            Ok(()) => break aside,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1000 => number += 1,
            Err(error) => {
                // A file that could not be filled.
                remove(directory, &aside);
                return Err(error);
            }
        }
    };
    rustix::fs::renameat(directory, aside.as_str(), directory, name).map_err(|error| {
        remove(directory, &aside);
        error.into()
    })
}

/// Best effort: what is left is a small file in a container that does not start.
fn remove(directory: &OwnedFd, name: &str) {
    let _ = rustix::fs::unlinkat(directory, name, AtFlags::empty());
}
