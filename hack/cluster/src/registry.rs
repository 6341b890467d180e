//! Which clusters there are: one run directory each, locked by the supervisor for as long as it lives.
//!
//! A directory that nobody holds a lock on belongs to a cluster whose supervisor was killed. Its processes die with
//! the supervisor (see `supervisor`), so what is left to remove is the cgroups and the directory: `sweep` does.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

use crate::cgroups;
use crate::layout::{CGROUP_PREFIX, RUN_ROOT, RunDirectory, cgroup_of};
use crate::name::ClusterName;
use crate::processes;
use crate::record::Record;

/// How long the kernel may take to let go of cgroups whose processes were killed.
const CGROUP_PATIENCE: Duration = Duration::from_secs(10);

/// A run directory, and the lock that says that its cluster is alive.
#[derive(Debug)]
pub(crate) struct Claim {
    name: ClusterName,
    directory: RunDirectory,
    _lock: File,
}

/// Held while a run directory comes or goes; nothing slow happens under it.
struct RootLock(File);

impl RootLock {
    fn take() -> Result<Self> {
        loop {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(RUN_ROOT)
                .with_context(|| format!("making {RUN_ROOT}"))?;
            let root = match File::open(RUN_ROOT) {
                Ok(root) => root,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error).with_context(|| format!("opening {RUN_ROOT}")),
            };
            flock(&root, FlockOperation::LockExclusive).with_context(|| format!("locking {RUN_ROOT}"))?;
            // The last cluster's end removes the root. Then this lock is on a directory that is no longer there.
            let there = fs::metadata(RUN_ROOT).map(|now| now.ino()).ok();
            if there == Some(root.metadata()?.ino()) {
                return Ok(Self(root));
            }
        }
    }

    /// Removes the root with the last cluster; it is kept while it holds any.
    fn release(self) {
        let _others_are_there = fs::remove_dir(RUN_ROOT);
        drop(self.0);
    }
}

impl Claim {
    /// Makes the run directory of a new cluster and locks it.
    pub(crate) fn new(name: &ClusterName) -> Result<Self> {
        let root = RootLock::take()?;
        let directory = RunDirectory::of(name);
        match lock(directory.path())? {
            Lock::Gone => {}
            Lock::Taken(stale) => Self { name: name.clone(), directory: directory.clone(), _lock: stale }.erase()?,
            Lock::Held => bail!("cluster {:?} is already up: use another name, or take it down first", name.as_str()),
        }
        fs::DirBuilder::new()
            .mode(0o700)
            .create(directory.path())
            .with_context(|| format!("making {}", directory.path().display()))?;
        let Lock::Taken(lock) = lock(directory.path())? else {
            bail!("{} was taken by somebody who does not lock {RUN_ROOT}", directory.path().display());
        };
        drop(root);
        Ok(Self { name: name.clone(), directory, _lock: lock })
    }

    /// Removes what is left of a cluster whose processes are dead.
    pub(crate) fn remove(self) -> Result<()> {
        self.erase()?;
        RootLock::take()?.release();
        Ok(())
    }

    fn erase(&self) -> Result<()> {
        if let Ok(record) = Record::read(&self.directory) {
            for init in record.inits.values() {
                processes::kill_if_same(init)?;
            }
        }
        cgroups::remove(&cgroup_of(&self.name), CGROUP_PATIENCE)?;
        match fs::remove_dir_all(self.directory.path()) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.directory.path().display()))
            }
            _ => Ok(()),
        }
    }
}

/// What came of trying to lock a run directory.
enum Lock {
    /// A living supervisor has it.
    Held,
    /// Nobody had it: its supervisor is dead.
    Taken(File),
    /// There is no such directory, or no more.
    Gone,
}

fn lock(directory: &Path) -> Result<Lock> {
    let file = match File::open(directory) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Lock::Gone),
        Err(error) => return Err(error).with_context(|| format!("opening {}", directory.display())),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock::Taken(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(Lock::Held),
        Err(error) => Err(error).with_context(|| format!("locking {}", directory.display())),
    }
}

/// Whether a supervisor holds the cluster of this name.
pub(crate) fn is_alive(name: &ClusterName) -> Result<bool> {
    // Not while a directory is there but not yet locked.
    let root = RootLock::take()?;
    let alive = matches!(lock(RunDirectory::of(name).path())?, Lock::Held);
    root.release();
    Ok(alive)
}

/// The clusters that are up, sorted by name, after removing what dead ones have left behind.
pub(crate) fn sweep() -> Result<Vec<ClusterName>> {
    let root = RootLock::take()?;
    let mut alive = Vec::new();
    for entry in fs::read_dir(RUN_ROOT).with_context(|| format!("listing {RUN_ROOT}"))? {
        let Some(name) = entry?.file_name().to_str().and_then(|name| name.parse::<ClusterName>().ok()) else {
            continue;
        };
        let directory = RunDirectory::of(&name);
        match lock(directory.path())? {
            Lock::Taken(stale) => Claim { name, directory, _lock: stale }.erase()?,
            Lock::Held => alive.push(name),
            Lock::Gone => {}
        }
    }
    for group in cgroups::named(CGROUP_PREFIX)? {
        if !alive.iter().any(|name| cgroup_of(name) == group) {
            cgroups::remove(&group, CGROUP_PATIENCE)?;
        }
    }
    root.release();
    alive.sort();
    Ok(alive)
}
