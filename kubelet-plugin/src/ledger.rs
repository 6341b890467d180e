//! The ledger in memory, true to the records on disk and shared with another agent on the node: while one replaces the
//! other, the kubelet may call either.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use tessera_core::{ClaimUid, LayoutRecord, Layouts, Ledger, Loans, StoredRecord};
use tessera_vocabulary::DeviceName;
use tokio::sync::watch;
use tracing::warn;

use crate::files::FileError;
use crate::hardware::Hardware;
use crate::metrics::Metrics;
use crate::notices::Notices;
use crate::precedence::Precedence;
use crate::store::Store;
use crate::{layouts, loans};

/// The file of a ledger that is locked while somebody changes it, and counts the changes.
const CHANGES_FILE: &str = "changes";
/// Where the numbers stand in that.
const CHANGES: u64 = 0;
const AGENTS_STARTED: u64 = 8;

/// The file of a ledger that is locked for as long as an agent serves its driver.
const ALIVE: &str = "agents";

/// The one truth about who holds what on this node.
#[derive(Debug)]
pub(crate) struct SharedLedger {
    store: Store,
    boot_id: String,
    /// Locked while an agent works with the records; holds the number of changes that were ever made to them, and then
    /// the number of agents that were ever started.
    changes: File,
    /// Locked, so that another agent can tell that this one is alive.
    _alive: File,
    /// A panic while it is locked does no harm: what is on disk is read again when the number of changes differs.
    known: Mutex<Known>,
    /// Who is to know of what another agent undid, once there is one.
    hardware: OnceLock<Hardware>,
    /// Marked with each change, also those of another agent once they are read.
    changed: watch::Sender<()>,
    /// Marked with each change of what is lent.
    lent: watch::Sender<()>,
    metrics: Metrics,
    notices: Notices,
}

/// The records as they were after a number of changes.
#[derive(Debug, Default)]
struct Known {
    ledger: Ledger,
    /// What is kept of devices that are not offered as the agent was told at its start.
    layouts: BTreeMap<DeviceName, LayoutRecord>,
    /// The claims of which it is in doubt whether anybody needs their records.
    doubted: BTreeSet<ClaimUid>,
    /// Whether more is known of what pods have than is on disk.
    loans_unwritten: bool,
    changes: Option<u64>,
}

/// The ledger while no other agent changes it. What is changed in it is changed on disk first.
pub(crate) struct Transaction<'a> {
    shared: &'a SharedLedger,
    known: &'a mut Known,
}

/// Whether no agent serves any driver whose ledger is in a directory of this one: neither another process nor, so far,
/// this. Where that cannot be known, somebody may.
pub(crate) fn nobody_serves(state: &Path) -> bool {
    let entries = match fs::read_dir(state) {
        Ok(entries) => entries,
        Err(error) => return error.kind() == io::ErrorKind::NotFound,
    };
    let unused = |directory: PathBuf| match File::open(directory.join(ALIVE)) {
        Ok(alive) => alive.try_lock().is_ok(),
        Err(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
    };
    entries.into_iter().all(|entry| entry.is_ok_and(|entry| unused(entry.path())))
}

impl SharedLedger {
    /// Opens the ledger in the store's directory and reads it.
    pub(crate) fn open(store: Store, boot_id: String, metrics: Metrics, notices: Notices) -> Result<Self, FileError> {
        let open = |name: &str| {
            let path = store.directory().join(name);
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
            file.map_err(|source| FileError::new(path, source))
        };
        let (changes, alive) = (open(CHANGES_FILE)?, open(ALIVE)?);
        alive.lock_shared().map_err(|source| FileError::new(store.directory().join(ALIVE), source))?;
        let (known, hardware) = (Mutex::default(), OnceLock::new());
        let (changed, lent) = (watch::Sender::new(()), watch::Sender::new(()));
        let shared = Self { store, boot_id, changes, _alive: alive, known, hardware, changed, lent, metrics, notices };
        shared.exclusively(|_| ())?;
        Ok(shared)
    }

    /// From now on the hardware is told what another agent undid: else what was seen of it would be taken for an admin's
    /// until the next look, and handed out. To be called before anything else is done with the ledger.
    pub(crate) fn tell(&self, hardware: Hardware) {
        hardware.lay_out(self.known().device_layouts());
        let _ = self.hardware.set(hardware);
    }

    /// Hears of each change, be it of claims or of what is lent.
    pub(crate) fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Hears of each change of what is lent.
    pub(crate) fn lent(&self) -> watch::Receiver<()> {
        self.lent.subscribe()
    }

    /// Works with the ledger while no other agent does. Nothing in it may wait for anything but files.
    ///
    /// # Errors
    /// When the directory cannot be locked or read.
    pub(crate) fn exclusively<T>(&self, work: impl FnOnce(&mut Transaction<'_>) -> T) -> Result<T, FileError> {
        let mut known = self.known();
        self.changes.lock().map_err(|source| self.changes_failed(source))?;
        let result = self.refresh(&mut known).map(|()| work(&mut Transaction { shared: self, known: &mut known }));
        self.metrics.claims(known.ledger.records().count());
        self.changes.unlock().map_err(|source| self.changes_failed(source))?;
        result
    }

    /// Every accelerator that some claim has, or a part of it; as far as is known if the records cannot be read.
    pub(crate) fn accelerators_in_use(&self) -> BTreeSet<DeviceName> {
        let read = self.exclusively(|transaction| transaction.ledger().accelerators_in_use());
        read.unwrap_or_else(|_| self.known().ledger.accelerators_in_use())
    }

    /// What pods have without a claim, as far as is known without waiting for another agent.
    pub(crate) fn loans(&self) -> Loans {
        self.known().ledger.loans().clone()
    }

    /// Whether pods have anything without a claim, as far as is known without waiting for another agent.
    pub(crate) fn has_loans(&self) -> bool {
        !self.known().ledger.loans().units.is_empty()
    }

    /// The ledger as far as is known without waiting for another agent.
    pub(crate) fn snapshot(&self) -> Ledger {
        self.known().ledger.clone()
    }

    /// The claims whose records could not be read and were not made anew since.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub(crate) fn unread(&self) -> Result<BTreeSet<ClaimUid>, FileError> {
        self.exclusively(|transaction| {
            let mut recorded = self.store.recorded()?;
            recorded.retain(|uid| transaction.ledger().get(uid).is_none());
            Ok(recorded)
        })?
    }

    /// The place of this agent among those of the node that may be alive. Before the others where it cannot be counted.
    pub(crate) fn precedence(&self) -> Precedence {
        let count = || {
            let started = self.counter(AGENTS_STARTED)?.wrapping_add(1);
            self.count(AGENTS_STARTED, started).map(|()| started)
        };
        let number = self.exclusively(|_| count()).and_then(|counted| counted).unwrap_or_else(|error| {
            warn!(%error, "this agent cannot be told from an earlier one");
            0
        });
        Precedence::new(self.store.directory(), number)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the records anew if another agent has changed them.
    fn refresh(&self, known: &mut Known) -> Result<(), FileError> {
        let changes = self.counter(CHANGES)?;
        if known.changes != Some(changes) {
            let loaded = self.store.load(&self.boot_id)?;
            let (layouts, notices) = layouts::load(self.store.directory(), &self.boot_id)?;
            let (loans, notice) = loans::load(self.store.directory(), &self.boot_id)?;
            loaded.notices.into_iter().chain(notices).chain(notice).for_each(|notice| self.notices.tell(notice));
            (known.layouts, known.doubted) = (layouts, loaded.doubted);
            let before = std::mem::replace(&mut known.ledger, loaded.ledger);
            let (loans, unwritten) = before.loans().after_reading(loans, known.loans_unwritten);
            known.ledger.lend(loans);
            known.loans_unwritten = unwritten;
            self.lent.send_if_modified(|()| !before.loans().lend_the_same(known.ledger.loans()));
            self.changed.send_replace(());
            if let Some(hardware) = self.hardware.get() {
                before.work_that_is_not_in(&known.ledger).for_each(|work| hardware.undone(work));
                hardware.lay_out(known.device_layouts());
            }
            known.changes = Some(changes);
        }
        Ok(())
    }

    /// Says that the records are about to change. Before they do: who reads the number afterwards reads them anew.
    fn announce(&self, known: &mut Known) -> Result<(), FileError> {
        let next = known.changes.unwrap_or_default().wrapping_add(1);
        self.count(CHANGES, next)?;
        known.changes = Some(next);
        Ok(())
    }

    /// A number in the file of changes; 0 in a file that is shorter.
    fn counter(&self, offset: u64) -> Result<u64, FileError> {
        let mut bytes = [0; 8];
        match self.changes.read_at(&mut bytes, offset) {
            Ok(_) => Ok(u64::from_le_bytes(bytes)),
            Err(source) => Err(self.changes_failed(source)),
        }
    }

    fn count(&self, offset: u64, number: u64) -> Result<(), FileError> {
        let written = self.changes.write_all_at(&number.to_le_bytes(), offset);
        written.map_err(|source| self.changes_failed(source))
    }

    fn changes_failed(&self, source: io::Error) -> FileError {
        FileError::new(self.store.directory().join(CHANGES_FILE), source)
    }
}

impl Known {
    fn device_layouts(&self) -> Layouts {
        self.layouts.iter().map(|(name, record)| (name.clone(), record.device_layout())).collect()
    }
}

impl Transaction<'_> {
    /// What is kept of the layouts of devices, by name.
    pub(crate) fn layouts(&self) -> &BTreeMap<DeviceName, LayoutRecord> {
        &self.known.layouts
    }

    /// Keeps what is known of a device's layout. From then on it is offered so.
    pub(crate) fn lay_out(&mut self, record: LayoutRecord) -> Result<(), FileError> {
        self.shared.announce(self.known)?;
        layouts::write(self.shared.store.directory(), &record)?;
        if record.says_nothing() {
            self.known.layouts.remove(&record.device);
        } else {
            self.known.layouts.insert(record.device.clone(), record);
        }
        if let Some(hardware) = self.shared.hardware.get() {
            hardware.lay_out(self.known.device_layouts());
        }
        self.shared.changed.send_replace(());
        Ok(())
    }

    /// The ledger as it is.
    pub(crate) fn ledger(&self) -> &Ledger {
        &self.known.ledger
    }

    /// Adds a record.
    pub(crate) fn insert(&mut self, stored: StoredRecord) -> Result<(), FileError> {
        self.shared.announce(self.known)?;
        self.shared.store.write(&stored)?;
        self.known.ledger.insert(stored);
        self.shared.changed.send_replace(());
        Ok(())
    }

    /// Writes the record of a claim again if its file is lost or damaged; says whether it had to.
    pub(crate) fn mend(&mut self, uid: &ClaimUid) -> Result<bool, FileError> {
        let Some(stored) = self.known.ledger.get(uid).filter(|stored| !self.shared.store.holds(stored)).cloned() else {
            return Ok(false);
        };
        // Announced: an agent that started while the file was lost knows nothing of the claim.
        self.insert(stored).map(|()| true)
    }

    /// Removes a claim's record. That there is none is fine.
    pub(crate) fn remove(&mut self, uid: &ClaimUid) -> Result<(), FileError> {
        self.shared.announce(self.known)?;
        self.shared.store.remove(uid)?;
        self.known.doubted.remove(uid);
        self.known.ledger.remove(uid);
        self.shared.changed.send_replace(());
        Ok(())
    }

    /// It is in doubt whether anybody needs a claim's record, until the kubelet asks for the claim again, of whichever agent.
    pub(crate) fn doubt(&mut self, uid: &ClaimUid) -> Result<(), FileError> {
        if !self.is_doubted(uid) {
            self.shared.announce(self.known)?;
            self.shared.store.doubt(uid)?;
            self.known.doubted.insert(uid.clone());
        }
        Ok(())
    }

    /// Whether that is so.
    pub(crate) fn is_doubted(&self, uid: &ClaimUid) -> bool {
        self.known.doubted.contains(uid)
    }

    /// The kubelet has asked for the claim.
    pub(crate) fn trust(&mut self, uid: &ClaimUid) -> Result<(), FileError> {
        if self.is_doubted(uid) {
            self.shared.announce(self.known)?;
            self.shared.store.trust(uid)?;
            self.known.doubted.remove(uid);
        }
        Ok(())
    }

    /// Says anew what pods have without a claim. When it cannot be written, nothing has changed.
    pub(crate) fn lend(&mut self, loans: Loans) -> Result<(), FileError> {
        self.write_loans(&loans)?;
        self.know(loans);
        Ok(())
    }

    /// The same of what the kubelet has told: when it cannot be written, it is known here all the same, and is to be said
    /// again.
    pub(crate) fn lend_as_told(&mut self, loans: Loans) -> Result<(), FileError> {
        let written = self.write_loans(&loans);
        self.known.loans_unwritten = written.is_err();
        self.know(loans);
        written
    }

    /// Writes nothing where that is on disk.
    fn write_loans(&mut self, loans: &Loans) -> Result<(), FileError> {
        if self.known.ledger.loans() == loans && !self.known.loans_unwritten {
            return Ok(());
        }
        self.shared.announce(self.known)?;
        loans::write(self.shared.store.directory(), loans, &self.shared.boot_id)?;
        self.known.loans_unwritten = false;
        Ok(())
    }

    fn know(&mut self, loans: Loans) {
        let is_new = !loans.lend_the_same(self.known.ledger.loans());
        self.known.ledger.lend(loans);
        if is_new {
            self.shared.changed.send_replace(());
            self.shared.lent.send_replace(());
        }
    }
}

#[cfg(test)]
mod tests {
    use tessera_core::Loan;

    use super::*;
    use crate::metrics::testing::metrics;
    use crate::notices::testing::notices;
    use crate::store::testing::record;

    fn open(directory: &std::path::Path) -> SharedLedger {
        let store = Store::open(directory.to_owned()).unwrap();
        SharedLedger::open(store, "boot".to_owned(), metrics(), notices()).unwrap()
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
        one.exclusively(|ledger| ledger.insert(record("uid-1", "boot"))).unwrap().unwrap();
        assert_eq!(uids(&other), ["uid-1"]);
        other.exclusively(|ledger| ledger.insert(record("uid-2", "boot"))).unwrap().unwrap();
        other.exclusively(|ledger| ledger.remove(&"uid-1".parse().unwrap())).unwrap().unwrap();
        assert_eq!(uids(&one), ["uid-2"]);
        assert_eq!(uids(&open(directory.path())), ["uid-2"]);
    }

    #[test]
    fn a_claim_that_is_asked_for_is_doubted_by_no_agent() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (open(directory.path()), open(directory.path()));
        let uid: ClaimUid = "uid-1".parse().unwrap();
        one.exclusively(|ledger| ledger.insert(record("uid-1", "boot"))).unwrap().unwrap();
        let doubted = |ledger: &SharedLedger| ledger.exclusively(|ledger| ledger.is_doubted(&uid)).unwrap();
        for is_asked_for in [true, false] {
            one.exclusively(|ledger| ledger.doubt(&uid)).unwrap().unwrap();
            assert!(doubted(&one) && doubted(&other) && doubted(&open(directory.path())));
            let end =
                |ledger: &mut Transaction<'_>| if is_asked_for { ledger.trust(&uid) } else { ledger.remove(&uid) };
            other.exclusively(end).unwrap().unwrap();
            assert!(!doubted(&one) && !doubted(&other) && !doubted(&open(directory.path())));
        }
    }

    /// Pods have a GPU.
    fn loans(unit: &str) -> Loans {
        let mut loans = Loans::default();
        loans.grant(unit.to_owned(), Loan::new("nvidia.com/gpu".to_owned(), false, Vec::new()));
        loans
    }

    fn lend(ledger: &SharedLedger, loans: Loans) -> Result<(), FileError> {
        ledger.exclusively(|ledger| ledger.lend(loans)).unwrap()
    }

    fn lent(ledger: &SharedLedger) -> Vec<String> {
        ledger.exclusively(|ledger| ledger.ledger().loans().units.keys().cloned().collect()).unwrap()
    }

    #[test]
    fn two_agents_see_what_the_other_has_lent() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (open(directory.path()), open(directory.path()));
        let mut heard = other.lent();
        lend(&one, loans("GPU-1")).unwrap();
        assert_eq!((lent(&other), heard.has_changed().unwrap()), (vec!["GPU-1".to_owned()], true));
        heard.mark_unchanged();
        lend(&other, Loans::default()).unwrap();
        other.exclusively(|ledger| ledger.insert(record("uid-1", "boot"))).unwrap().unwrap();
        assert_eq!(lent(&one), Vec::<String>::new());
        assert!(heard.has_changed().unwrap());
        lend(&one, loans("GPU-2")).unwrap();
        assert_eq!(lent(&open(directory.path())), ["GPU-2"]);
    }

    #[test]
    fn loans_that_are_lost_or_cannot_be_written_stay_known_and_are_written_when_they_can_be() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (open(directory.path()), open(directory.path()));
        let (file, aside) = (directory.path().join("loans"), directory.path().join("loans.tmp"));
        lend(&one, loans("GPU-1")).unwrap();
        std::fs::write(&file, "damaged").unwrap();
        // Another agent changes something, so that all is read again.
        other.exclusively(|ledger| ledger.insert(record("uid-1", "boot"))).unwrap().unwrap();
        assert_eq!((lent(&one), lent(&other)), (vec!["GPU-1".to_owned()], vec![]));

        std::fs::create_dir(&aside).unwrap();
        assert!(lend(&one, loans("GPU-2")).is_err());
        assert_eq!(lent(&one), ["GPU-1"], "nothing has changed");
        assert!(one.exclusively(|ledger| ledger.lend_as_told(loans("GPU-2"))).unwrap().is_err());
        assert_eq!((lent(&one), lent(&other)), (vec!["GPU-2".to_owned()], vec![]));

        std::fs::remove_dir(&aside).unwrap();
        lend(&other, loans("GPU-3")).unwrap();
        assert_eq!(lent(&one), ["GPU-2", "GPU-3"], "what is on no disk yet is kept beside it");
        let both = one.loans();
        lend(&one, both).unwrap();
        assert_eq!(lent(&other), ["GPU-2", "GPU-3"]);
    }

    #[test]
    fn a_ledger_says_that_somebody_serves() {
        let state = tempfile::tempdir().unwrap();
        assert!(nobody_serves(&state.path().join("missing")) && nobody_serves(state.path()));
        std::fs::write(state.path().join("a-file"), "").unwrap();
        let one = open(&state.path().join("gpu.nvidia.com"));
        let other = open(&state.path().join("tpu.google.com"));
        assert!(!nobody_serves(state.path()));
        drop(one);
        assert!(!nobody_serves(state.path()), "the other driver's agent writes to the same directory of CDI specs");
        drop(other);
        assert!(nobody_serves(state.path()));
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
                        ledger.exclusively(|ledger| ledger.insert(record)).unwrap().unwrap();
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
        assert!(ledger.exclusively(|ledger| ledger.insert(record("uid-1", "boot"))).unwrap().is_err());
        assert!(uids(&ledger).is_empty());
    }
}
