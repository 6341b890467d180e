//! The file that holds the state of a machine, shared by all processes that look at it.
//!
//! Readers take no lock: a writer writes aside and renames, so a reader sees the old state or the new one. Writers
//! exclude each other by a lock on a second file, since the state file itself is replaced.

use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::error::{Error, Result};
use crate::hardware::Hardware;

/// Name of the state file below the root of a machine.
pub const NAME: &str = "hardware.json";

/// The state file of one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateFile {
    path: PathBuf,
}

/// Tells one version of the file from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    modified: Option<SystemTime>,
    size: u64,
}

impl StateFile {
    /// The state file in the root directory of a machine. It need not exist yet.
    pub fn below(root: &Path) -> Self {
        Self { path: root.join(NAME) }
    }

    /// The state file at this path.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which version is there now. Costs one `stat`.
    pub fn stamp(&self) -> Result<Stamp> {
        fs::metadata(&self.path).map(|data| stamp(&data)).map_err(Error::file("look at", &self.path))
    }

    /// The state, with the stamp of the version that was read.
    pub fn read(&self) -> Result<(Stamp, Hardware)> {
        let failed = || Error::file("read", &self.path);
        let file = File::open(&self.path).map_err(failed())?;
        let stamp = stamp(&file.metadata().map_err(failed())?);
        let text = std::io::read_to_string(file).map_err(failed())?;
        let hardware =
            serde_json::from_str(&text).map_err(|source| Error::State { path: self.path.clone(), source })?;
        Ok((stamp, hardware))
    }

    /// Keeps other writers out until the guard is dropped.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.path.with_extension("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(Error::file("open", &path))?;
        file.lock().map_err(Error::file("lock", &path))?;
        Ok(Lock { state: self.clone(), _file: file })
    }
}

/// Keeps other writers out.
#[derive(Debug)]
pub struct Lock {
    state: StateFile,
    /// Closing it lets the next writer in.
    _file: File,
}

impl Lock {
    /// Puts a new state in place of the old one.
    pub fn write(&self, hardware: &Hardware) -> Result<()> {
        let path = &self.state.path;
        let aside = path.with_extension("new");
        let mut text =
            serde_json::to_string_pretty(hardware).map_err(|source| Error::State { path: path.clone(), source })?;
        text.push('\n');
        fs::write(&aside, text).map_err(Error::file("write", &aside))?;
        self.outdate(&aside)?;
        fs::rename(&aside, path).map_err(Error::file("replace", path))
    }

    /// Gives the new version a time after the old one's. The kernel's clock ticks every few milliseconds and inode
    /// numbers are used again, so two quick writes of equal size could otherwise look like none.
    fn outdate(&self, aside: &Path) -> Result<()> {
        let Some(old) = fs::metadata(&self.state.path).ok().and_then(|data| data.modified().ok()) else {
            return Ok(());
        };
        let later = SystemTime::now().max(old + Duration::from_nanos(1000));
        let file = File::options().write(true).open(aside).map_err(Error::file("open", aside))?;
        file.set_modified(later).map_err(Error::file("set the time of", aside))
    }
}

fn stamp(data: &Metadata) -> Stamp {
    Stamp { inode: data.ino(), modified: data.modified().ok(), size: data.len() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Profile;

    #[test]
    fn each_version_is_later_than_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateFile::below(directory.path());
        let hardware = Profile::named("mixed").unwrap().hardware();
        state.lock().unwrap().write(&hardware).unwrap();
        // A clock that stands still between two writes, and more so.
        let ahead = SystemTime::now() + Duration::from_secs(3600);
        File::options().write(true).open(state.path()).unwrap().set_modified(ahead).unwrap();
        for _ in 0..2 {
            let before = state.stamp().unwrap();
            state.lock().unwrap().write(&hardware).unwrap();
            let after = state.stamp().unwrap();
            assert!(after.modified > before.modified, "{before:?} {after:?}");
            assert_eq!(state.read().unwrap(), (after, hardware.clone()));
        }
    }
}
