use std::fmt;
use std::path::{Path, PathBuf};

/// One system call that changes files, as the process is about to make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Its name, such as `renameat`.
    pub call: &'static str,
    /// What sort of change it makes.
    pub change: Change,
    /// What it names, in the order of its arguments; empty for [`Change::Hidden`].
    pub paths: Vec<PathBuf>,
}

/// Sorts of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A file is opened for writing, maybe made or emptied.
    Open,
    /// What is in a file, or how long it is.
    Write,
    /// A directory or a node is made.
    Make,
    /// A file gets a name: by renaming or linking.
    Name,
    /// A name goes.
    Remove,
    /// Mode, owner, times, extended attributes.
    Attributes,
    /// Nothing but how much of it outlives the machine.
    Sync,
    /// A file system is mounted, moved or unmounted.
    Mount,
    /// By io_uring: what it is cannot be seen, nor where.
    Hidden,
}

impl Point {
    /// Where the change shows: the only path, or the new name. `None` for [`Change::Hidden`].
    pub fn path(&self) -> Option<&Path> {
        self.paths.last().map(PathBuf::as_path)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.call)?;
        self.paths.iter().try_for_each(|path| write!(f, " {}", path.display()))
    }
}
