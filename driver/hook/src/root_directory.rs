use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// How often a path is tried again while others rename what it leads through; the kernel gives up at once.
const TRIES: u32 = 64;

/// A directory that stands for the root of a file system: a container's or a driver's.
///
/// Paths are those of someone who lives in it. Symbolic links, absolute ones too, and `..` lead to what they would lead
/// to there, never out of it: the kernel sees to that (`openat2` with `RESOLVE_IN_ROOT`, Linux 5.6), also while others
/// change the tree. A link that leads round in circles is an error.
#[derive(Debug)]
pub struct RootDirectory {
    handle: OwnedFd,
}

/// What a path leads to, once no link is left in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The path without links, as seen from inside the root.
    pub path: String,
    /// What is there.
    pub kind: FileKind,
}

/// What a file is, as far as anybody asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A socket.
    Socket,
    /// A FIFO or a device.
    Other,
}

impl RootDirectory {
    /// Opens the directory; its own path may lead through links.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { handle: rustix::fs::openat(CWD, path, flags, Mode::empty())? })
    }

    /// Opens `path` with what it leads to.
    pub(crate) fn open_at(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let open = || rustix::fs::openat2(&self.handle, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
        let mut result = open();
        for _ in 0..TRIES {
            if result.as_ref().err() != Some(&Errno::AGAIN) {
                break;
            }
            result = open();
        }
        result
    }

    /// What the path leads to. `None` where there is nothing, or where its name is no text.
    ///
    /// # Errors
    /// Whatever else the system says, a circle of links among it.
    pub fn resolve(&self, path: &str) -> io::Result<Option<Resolved>> {
        let Some(found) = optional(self.open_at(Path::new(path), OFlags::PATH))? else { return Ok(None) };
        let kind = kind(&found)?;
        let (root, real) = (name_of(&self.handle)?, name_of(&found)?);
        let inside = real.strip_prefix(&root).ok().map(|inside| Path::new("/").join(inside));
        let path = inside.and_then(|path| path.into_os_string().into_string().ok());
        Ok(path.map(|path| Resolved { path, kind }))
    }

    /// The regular file that the path leads to, for reading. `None` where there is none: nothing else is opened, since
    /// to open a FIFO may take for ever, and to open a device may do anything.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn file(&self, path: &str) -> io::Result<Option<File>> {
        let Some(found) = optional(self.open_at(Path::new(path), OFlags::PATH))? else { return Ok(None) };
        if kind(&found)? != FileKind::Regular {
            return Ok(None);
        }
        // The very file that was looked at, whatever its name stands for by now.
        Ok(Some(File::open(own_link(&found))?))
    }

    /// The content of the regular file that the path leads to. `None` where there is none, or one with more than
    /// `limit` bytes.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn read(&self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.file(path)? else { return Ok(None) };
        let mut content = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut content)?;
        Ok(u64::try_from(content.len()).is_ok_and(|length| length <= limit).then_some(content))
    }

    /// The names in the directory that the path leads to, in order, but for those that are no text. `None` where there
    /// is no directory.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn list(&self, path: &str) -> io::Result<Option<Vec<String>>> {
        let Some(directory) = optional(self.open_at(Path::new(path), OFlags::RDONLY | OFlags::DIRECTORY))? else {
            return Ok(None);
        };
        let mut names = Vec::new();
        for entry in Dir::new(directory)? {
            let name = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
            names.extend(name.into_string().ok().filter(|name| name != "." && name != ".."));
        }
        names.sort();
        Ok(Some(names))
    }
}

/// Nothing there, or something that is no directory on the way: for all who look for files, that is the same.
fn optional<T>(result: rustix::io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn kind(file: impl AsFd) -> rustix::io::Result<FileKind> {
    Ok(match FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode) {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Directory,
        FileType::Socket => FileKind::Socket,
        _ => FileKind::Other,
    })
}

fn own_link(file: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// The kernel's name for an open file.
fn name_of(file: &OwnedFd) -> rustix::io::Result<PathBuf> {
    let name = rustix::fs::readlink(own_link(file), Vec::new())?;
    Ok(OsString::from_vec(name.into_bytes()).into())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A root beside a directory `outside`, which nothing may reach.
    fn trees() -> (tempfile::TempDir, RootDirectory) {
        let all = tempfile::tempdir().unwrap();
        let root = all.path().join("root");
        fs::create_dir_all(all.path().join("outside")).unwrap();
        fs::write(all.path().join("outside/file"), "secret").unwrap();
        fs::create_dir_all(root.join("usr/lib")).unwrap();
        fs::write(root.join("usr/lib/file"), "text").unwrap();
        symlink("usr/lib", root.join("lib")).unwrap();
        symlink("/usr/lib/file", root.join("absolute")).unwrap();
        symlink("../../../../usr/lib/file", root.join("usr/up")).unwrap();
        symlink(all.path().join("outside/file"), root.join("out")).unwrap();
        symlink("../outside/file", root.join("up-and-out")).unwrap();
        symlink("circle", root.join("circle")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();
        rustix::fs::mknodat(CWD, root.join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        let directory = RootDirectory::open(&root).unwrap();
        (all, directory)
    }

    #[test]
    fn links_lead_where_they_would_inside_and_never_out() {
        let (_all, root) = trees();
        let real = |path: &str| root.resolve(path).unwrap().map(|found| found.path);
        for path in ["/usr/lib/file", "lib/file", "/lib/file", "/absolute", "/usr/up", "/../../usr/lib/file"] {
            assert_eq!(real(path).as_deref(), Some("/usr/lib/file"), "{path}");
        }
        for path in ["/out", "/up-and-out", "/missing", "/usr/lib/file/deeper", "/magic/etc"] {
            assert_eq!(real(path), None, "{path}");
        }
        assert_eq!(real("/").as_deref(), Some("/"));
        assert!(root.resolve("/circle").is_err());
    }

    #[test]
    fn only_regular_files_are_opened_and_no_more_is_read_than_asked_for() {
        let (_all, root) = trees();
        assert_eq!(root.read("/absolute", 4).unwrap().as_deref(), Some(&b"text"[..]));
        assert_eq!(root.read("/absolute", 3).unwrap(), None);
        assert_eq!(root.read("/fifo", 4).unwrap(), None);
        assert_eq!(root.read("/usr", 4).unwrap(), None);
        assert_eq!(root.resolve("/fifo").unwrap().unwrap().kind, FileKind::Other);
    }

    #[test]
    fn names_come_in_order() {
        let (_all, root) = trees();
        assert_eq!(root.list("/usr").unwrap().unwrap(), ["lib", "up"]);
        assert_eq!(root.list("/lib").unwrap().unwrap(), ["file"]);
        assert_eq!(root.list("/fifo").unwrap(), None);
        assert_eq!(root.list("/missing").unwrap(), None);
    }
}
