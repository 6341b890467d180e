//! Which of a node's agents publishes, while one replaces the other: the one that started last, from the moment at which
//! it has published for the first time. Two that know different things would undo each other's slices for ever.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tracing::warn;

const PREFIX: &str = "publisher-";

/// The place of one agent among those of its node.
#[derive(Debug)]
pub(crate) struct Precedence {
    directory: PathBuf,
    /// Higher than that of every agent that started before.
    number: u64,
    /// Locked for as long as the agent lives.
    announced: OnceLock<Option<File>>,
}

impl Precedence {
    /// The place of the agent with this number. Clears up after those that are gone.
    pub(crate) fn new(directory: &Path, number: u64) -> Self {
        let precedence = Self { directory: directory.to_owned(), number, announced: OnceLock::new() };
        for (_, path) in precedence.others().into_iter().filter(|(_, path)| !is_locked(path)) {
            let _ = fs::remove_file(path);
        }
        precedence
    }

    /// Tells the other agents that this one has published: the earlier ones leave it to this one from now on.
    pub(crate) fn announce(&self) {
        self.announced.get_or_init(|| {
            let path = self.path();
            // Waits for one that looks whether it is locked, and for nobody else.
            let locked = File::create(&path).and_then(|file| file.lock().map(|()| file));
            locked
                .inspect_err(|error| warn!(path = %path.display(), %error, "an earlier agent will go on to publish"))
                .ok()
        });
    }

    /// Whether a later agent publishes.
    pub(crate) fn yields(&self) -> bool {
        self.others().iter().any(|(number, path)| *number > self.number && is_locked(path))
    }

    fn path(&self) -> PathBuf {
        self.directory.join(format!("{PREFIX}{}", self.number))
    }

    /// The numbers and files of the other agents, of those that are gone too.
    fn others(&self) -> Vec<(u64, PathBuf)> {
        let number = |path: &Path| path.file_name()?.to_str()?.strip_prefix(PREFIX)?.parse().ok();
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten().map(|entry| entry.path());
        let numbered = entries.filter_map(|path| Some((number(&path)?, path)));
        numbered.filter(|(number, _)| *number != self.number).collect()
    }
}

impl Drop for Precedence {
    fn drop(&mut self) {
        if self.announced.get().is_some() {
            let _ = fs::remove_file(self.path());
        }
    }
}

/// Whether the agent that made the file lives.
fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_agent_publishes_once_it_has_and_while_it_lives() {
        let directory = tempfile::tempdir().unwrap();
        let (earlier, later) = (Precedence::new(directory.path(), 1), Precedence::new(directory.path(), 2));
        earlier.announce();
        assert!(!earlier.yields() && !later.yields(), "the later one has published nothing yet");
        later.announce();
        assert!(earlier.yields() && !later.yields());
        drop(later);
        assert!(!earlier.yields(), "it is gone");
    }

    #[test]
    fn what_a_killed_agent_left_hinders_nobody() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("publisher-7"), "").unwrap();
        assert!(!Precedence::new(directory.path(), 1).yields());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
