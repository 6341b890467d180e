use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tessera_hook::{FileKind, Resolved, RootDirectory};

use super::File;
use crate::Root;

/// Two changes within this time may leave a directory with one time of change: file systems count in ticks of the
/// kernel, the coarsest in seconds.
const TICK: Duration = Duration::from_secs(2);

/// A look below a driver's root that remembers what it looked at.
pub(super) struct Search<'a> {
    root: &'a Root,
    directory: RootDirectory,
    stamps: Stamps,
}

/// What a look depended on, and how that was: directories that were searched, there or not, and files that were found.
/// A file that comes or goes changes its directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::nvidia) struct Stamps(BTreeMap<PathBuf, Option<Stamp>>);

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    modified: Option<SystemTime>,
}

impl Stamps {
    /// The stamps of these paths.
    pub(in crate::nvidia) fn of(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(paths.into_iter().map(|path| (path.clone(), stamp(&path))).collect())
    }

    fn add(&mut self, path: PathBuf) {
        if let Entry::Vacant(vacant) = self.0.entry(path) {
            let stamp = stamp(vacant.key());
            vacant.insert(stamp);
        }
    }

    /// Whether all is as it was. Costs a call a path.
    pub(in crate::nvidia) fn hold(&self) -> bool {
        self.0.iter().all(|(path, known)| stamp(path) == *known)
    }

    /// Whether a later change would show: nothing was changed just before `looked`.
    pub(in crate::nvidia) fn settled(&self, looked: SystemTime) -> bool {
        let modified = |stamp: &Stamp| stamp.modified;
        self.0.values().flatten().filter_map(modified).all(|modified| modified + TICK < looked)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let data = fs::metadata(path).ok()?;
    Some(Stamp { device: data.dev(), inode: data.ino(), modified: data.modified().ok() })
}

impl<'a> Search<'a> {
    pub(super) fn new(root: &'a Root) -> io::Result<Self> {
        let directory = RootDirectory::open(&root.seen_by_agent("/"))?;
        Ok(Self { root, directory, stamps: Stamps::default() })
    }

    pub(super) fn into_stamps(self) -> Stamps {
        self.stamps
    }

    /// The root as the agent sees it, for texts.
    pub(super) fn root(&self) -> String {
        self.root.seen_by_agent("/").display().to_string()
    }

    /// The path of the root as the container runtime sees it.
    pub(super) fn seen_by_runtime(&self) -> String {
        self.root.seen_by_runtime("/").to_string_lossy().into_owned()
    }

    /// What the path leads to. What cannot be looked at is not there: a circle of links, a forbidden directory.
    pub(super) fn resolve(&mut self, path: &str) -> Option<Resolved> {
        let found = self.directory.resolve(path).ok().flatten();
        let stamped = found.as_ref().map_or(path, |found| &found.path);
        self.stamps.add(self.root.seen_by_agent(stamped));
        found
    }

    /// The directory without links in its path.
    pub(super) fn directory(&mut self, path: &str) -> Option<String> {
        self.resolve(path).filter(|found| found.kind == FileKind::Directory).map(|found| found.path)
    }

    /// The names in a directory, in order; none where there is no directory.
    pub(super) fn names(&mut self, directory: &str) -> Vec<String> {
        self.directory(directory).and_then(|real| self.directory.list(&real).ok().flatten()).unwrap_or_default()
    }

    /// What has this name in the directory. Where the directory is not, nothing is asked for.
    pub(super) fn entry(&mut self, directory: &str, name: &str) -> Option<Resolved> {
        let real = self.directory(directory)?;
        let found = self.directory.resolve(&format!("{real}/{name}")).ok().flatten()?;
        self.stamps.add(self.root.seen_by_agent(&found.path));
        Some(found)
    }

    /// The regular file that has this name in the first of the directories that has one; handed out as `inside`.
    pub(super) fn first_file(&mut self, directories: &[&str], name: &str, inside: Option<&str>) -> Option<File> {
        directories.iter().find_map(|directory| {
            let found = self.entry(directory, name).filter(|found| found.kind == FileKind::Regular)?;
            let inside =
                inside.map_or_else(|| format!("{directory}/{name}"), |directory| format!("{directory}/{name}"));
            Some(self.handed_out(&found, inside))
        })
    }

    /// The file, to be handed out under this path.
    pub(super) fn handed_out(&self, found: &Resolved, inside: String) -> File {
        File { inside, on_host: self.root.seen_by_runtime(&found.path).to_string_lossy().into_owned() }
    }

    /// The regular file's content; nothing where it has more than `limit` bytes.
    pub(super) fn read(&mut self, path: &str, limit: u64) -> Option<Vec<u8>> {
        self.resolve(path)?;
        self.directory.read(path, limit).ok().flatten()
    }

    /// The regular file, opened.
    pub(super) fn open(&self, path: &str) -> Option<fs::File> {
        self.directory.file(path).ok().flatten()
    }
}
