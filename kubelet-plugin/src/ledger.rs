//! The ledger in memory, true to the records on disk and shared with another agent on the node: while one replaces the
//! other, the kubelet may call either.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tessera_core::{ClaimUid, Ledger, Record};
use tessera_vocabulary::DeviceName;

use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

/// The one truth about who holds what on this node.
#[derive(Debug)]
pub(crate) struct SharedLedger {
    store: Store,
    boot_id: String,
    /// Locked while an agent works with the records; holds the number of changes that were ever made to them.
    changes: File,
    /// Locked for as long as an agent lives, so that another one can tell.
    _alive: File,
    alone: bool,
    /// A panic while it is locked does no harm: what is on disk is read again when the number of changes differs.
    known: Mutex<Known>,
    metrics: Metrics,
}

/// The records as they were after a number of changes.
#[derive(Debug, Default)]
struct Known {
    ledger: Ledger,
    changes: Option<u64>,
}

/// The ledger while no other agent changes it. What is changed in it is changed on disk first.
pub(crate) struct Transaction<'a> {
    shared: &'a SharedLedger,
    known: &'a mut Known,
}

impl SharedLedger {
    /// Opens the ledger in the store's directory and reads it.
    pub(crate) fn open(store: Store, boot_id: String, metrics: Metrics) -> Result<Self, StoreError> {
        let open = |name: &str| {
            let path = store.directory().join(name);
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
            file.map_err(|source| StoreError::new(path, source))
        };
        let (changes, alive) = (open("changes")?, open("agents")?);
        let alone = alive.try_lock().is_ok();
        // From exclusive to shared, or to shared beside the other agent's.
        alive.lock_shared().map_err(|source| StoreError::new(store.directory().join("agents"), source))?;
        let shared = Self { store, boot_id, changes, _alive: alive, alone, known: Mutex::default(), metrics };
        shared.exclusively(|_| ())?;
        Ok(shared)
    }

    /// Works with the ledger while no other agent does. Nothing in it may wait for anything but files.
    ///
    /// # Errors
    /// When the directory cannot be locked or read.
    pub(crate) fn exclusively<T>(&self, work: impl FnOnce(&mut Transaction<'_>) -> T) -> Result<T, StoreError> {
        let failed = |source| StoreError::new(self.store.directory().join("changes"), source);
        let mut known = self.known();
        self.changes.lock().map_err(failed)?;
        let result = self.refresh(&mut known).map(|()| work(&mut Transaction { shared: self, known: &mut known }));
        self.metrics.claims(known.ledger.records().count());
        self.changes.unlock().map_err(failed)?;
        result
    }

    /// Whether no other agent was alive on the node when this one started.
    pub(crate) fn is_alone(&self) -> bool {
        self.alone
    }

    /// Every device that some claim holds, as far as is known without waiting for another agent.
    pub(crate) fn held(&self) -> BTreeSet<DeviceName> {
        self.known().ledger.held()
    }

    /// The ledger as far as is known without waiting for another agent.
    pub(crate) fn snapshot(&self) -> Ledger {
        self.known().ledger.clone()
    }

    /// Whether a record is on disk as it should be.
    pub(crate) fn holds_on_disk(&self, record: &Record) -> bool {
        self.store.holds(record)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the records anew if another agent has changed them.
    fn refresh(&self, known: &mut Known) -> Result<(), StoreError> {
        let changes = self.number_of_changes()?;
        if known.changes != Some(changes) {
            known.ledger = self.store.load(&self.boot_id)?;
            known.changes = Some(changes);
        }
        Ok(())
    }

    fn number_of_changes(&self) -> Result<u64, StoreError> {
        let mut bytes = [0; 8];
        match self.changes.read_at(&mut bytes, 0) {
            Ok(_) => Ok(u64::from_le_bytes(bytes)),
            Err(source) => Err(StoreError::new(self.store.directory().join("changes"), source)),
        }
    }

    /// Says that the records are about to change. Before they do: who reads the number afterwards reads them anew.
    fn announce(&self, known: &mut Known) -> Result<(), StoreError> {
        let next = known.changes.unwrap_or_default().wrapping_add(1);
        let written = self.changes.write_all_at(&next.to_le_bytes(), 0);
        written.map_err(|source: io::Error| StoreError::new(self.store.directory().join("changes"), source))?;
        known.changes = Some(next);
        Ok(())
    }
}

impl Transaction<'_> {
    /// The ledger as it is.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.known.ledger
    }

    /// Adds a record.
    pub(crate) fn insert(&mut self, record: &Record) -> Result<(), StoreError> {
        self.shared.announce(self.known)?;
        self.shared.store.write(record)?;
        self.known.ledger.insert(record.clone());
        Ok(())
    }

    /// Writes a record that is in the ledger again if its file is lost or damaged; says whether it was whole.
    pub(crate) fn keep(&mut self, record: &Record) -> Result<bool, StoreError> {
        let there = self.shared.store.holds(record);
        if !there {
            self.insert(record)?;
        }
        Ok(there)
    }

    /// Removes a claim's record. That there is none is fine.
    pub(crate) fn remove(&mut self, uid: &ClaimUid) -> Result<(), StoreError> {
        self.shared.announce(self.known)?;
        self.shared.store.remove(uid)?;
        self.known.ledger.remove(uid);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::record;

    fn open(directory: &std::path::Path) -> SharedLedger {
        SharedLedger::open(Store::open(directory.to_owned()).unwrap(), "boot".to_owned(), Metrics::new("test")).unwrap()
    }

    fn uids(ledger: &SharedLedger) -> Vec<String> {
        let records = |transaction: &mut Transaction<'_>| -> Vec<_> {
            transaction.ledger().records().map(|record| record.claim.uid.to_string()).collect()
        };
        ledger.exclusively(records).unwrap()
    }

    #[test]
    fn two_agents_see_each_others_changes() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (open(directory.path()), open(directory.path()));
        one.exclusively(|ledger| ledger.insert(&record("uid-1", "boot"))).unwrap().unwrap();
        assert_eq!(uids(&other), ["uid-1"]);
        other.exclusively(|ledger| ledger.insert(&record("uid-2", "boot"))).unwrap().unwrap();
        other.exclusively(|ledger| ledger.remove(&"uid-1".parse().unwrap())).unwrap().unwrap();
        assert_eq!(uids(&one), ["uid-2"]);
        assert_eq!(uids(&open(directory.path())), ["uid-2"]);
    }

    #[test]
    fn agents_that_work_at_once_lose_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let agents = [open(directory.path()), open(directory.path())];
        std::thread::scope(|scope| {
            for (agent, ledger) in agents.iter().enumerate() {
                scope.spawn(move || {
                    for number in 0..100 {
                        let record = record(&format!("uid-{agent}-{number}"), "boot");
                        ledger.exclusively(|ledger| ledger.insert(&record)).unwrap().unwrap();
                    }
                });
            }
        });
        assert_eq!(uids(&agents[0]).len(), 200);
        assert_eq!(uids(&agents[0]), uids(&agents[1]));
    }

    #[test]
    fn a_record_that_cannot_be_written_is_not_in_the_ledger() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = open(directory.path());
        std::fs::create_dir(directory.path().join("uid-1.record")).unwrap();
        assert!(ledger.exclusively(|ledger| ledger.insert(&record("uid-1", "boot"))).unwrap().is_err());
        assert!(uids(&ledger).is_empty());
    }
}
