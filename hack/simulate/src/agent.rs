//! One agent: the shells of `kubelet-plugin/src` (ledger, disk, claims, hardware) over the core, without threads. What
//! runs there without a pause between two waits is one function here.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use tessera_core::{
    Allocation, ClaimError, ClaimRef, ClaimUid, Executor, Identity, Inventory, Ledger, PreparedDevice, Record, Refusal,
    Step, execute, plan, repair, revert,
};
use tessera_vocabulary::DeviceName;

use crate::call::Call;
use crate::disk::{Disk, Files, Trouble, decode};
use crate::hardware::Hardware;
use crate::publisher::Publisher;
use crate::server::Refused;
use crate::setting::Plant;

/// Why a claim was not prepared or undone.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperationError {
    #[error(transparent)]
    Disk(#[from] Trouble),
    #[error(transparent)]
    Read(#[from] Refused),
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error(transparent)]
    Refusal(#[from] Refusal),
    #[error(transparent)]
    Name(#[from] cdi::InvalidName),
}

/// The records as they were after a number of changes.
#[derive(Debug, Default)]
struct Known {
    ledger: Ledger,
    changes: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Agent {
    /// Told apart from the agents before and beside it.
    pub(crate) number: u32,
    pub(crate) identity: Identity,
    disk: Rc<Disk>,
    plant: Option<Plant>,
    alone: bool,
    known: RefCell<Known>,
    /// Nothing that it does has an effect any more; it is taken away after the step.
    pub(crate) dead: Cell<bool>,
    undoing_skipped: Cell<bool>,
    pub(crate) calls: Vec<Call>,
    /// What the hardware was like at the last look.
    pub(crate) observed: Option<Inventory>,
    pub(crate) publisher: Publisher,
    pub(crate) next_look: u64,
    pub(crate) next_sweep: u64,
}

impl Agent {
    pub(crate) fn new(number: u32, identity: Identity, disk: Rc<Disk>, alone: bool, plant: Option<Plant>) -> Self {
        Self {
            number,
            identity,
            disk,
            plant,
            alone,
            known: RefCell::default(),
            dead: Cell::new(false),
            undoing_skipped: Cell::new(false),
            calls: Vec::new(),
            observed: None,
            publisher: Publisher::new(),
            next_look: 0,
            next_sweep: 0,
        }
    }

    /// Takes over what an earlier agent left.
    pub(crate) fn take_over(&self) -> Result<(), OperationError> {
        self.refresh()?;
        if self.alone {
            let _ = self.on_disk(|files| {
                if files.state != crate::event::DiskState::ReadOnly {
                    files.spec_temporaries = 0;
                }
                Ok(())
            });
        }
        self.sweep();
        Ok(())
    }

    pub(crate) fn with_ledger<T>(&self, work: impl FnOnce(&Ledger) -> T) -> T {
        work(&self.known.borrow().ledger)
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.known.borrow().ledger.clone()
    }

    pub(crate) fn held(&self) -> BTreeSet<DeviceName> {
        self.known.borrow().ledger.held()
    }

    /// Looks at the hardware.
    pub(crate) fn look(&mut self, hardware: &Hardware) {
        let before = self.observed.clone().unwrap_or_default();
        self.observed = Some(match hardware.discover() {
            Ok(found) => before.after(&found, &self.held()),
            Err(cause) => before.unreachable(cause),
        });
    }

    /// Does again what is missing of claims, and removes what belongs to none.
    pub(crate) fn sweep(&self) {
        let prepared: Vec<ClaimUid> = match self.refresh() {
            Ok(()) => self.with_ledger(|ledger| ledger.records().map(|record| record.claim.uid.clone()).collect()),
            Err(_) => Vec::new(),
        };
        for uid in &prepared {
            let _ = self.mend(uid);
        }
        let kind = self.identity.cdi_kind();
        let present: Vec<_> = self.disk.0.borrow().specs.keys().cloned().collect();
        for file in present {
            if let Some(uid) = file.transient_id(kind) {
                let known = uid.parse().is_ok_and(|uid| self.recall(&uid).is_ok_and(|record| record.is_some()));
                if !known {
                    let _ = self.on_disk(|files| files.remove_spec(&file));
                }
            }
        }
    }

    pub(crate) fn recall(&self, uid: &ClaimUid) -> Result<Option<Record>, OperationError> {
        self.refresh()?;
        Ok(self.with_ledger(|ledger| ledger.get(uid).cloned()))
    }

    /// For the planted bug: the ledger that a plan made without the lock sees, one from before every other claim.
    pub(crate) fn snapshot(&self) -> Option<Box<Ledger>> {
        (self.plant == Some(Plant::LockDropped)).then(Box::default)
    }

    pub(crate) fn ignores_locks(&self) -> bool {
        self.plant == Some(Plant::LockDropped)
    }

    /// Plans, and keeps the plan in the ledger at once.
    pub(crate) fn reserve(
        &self,
        claim: &ClaimRef,
        allocations: &[Allocation],
        stale: Option<&Ledger>,
        hardware: &Hardware,
    ) -> Result<Record, OperationError> {
        let nothing = Inventory::default();
        let inventory = self.observed.as_ref().unwrap_or(&nothing);
        self.refresh()?;
        let edits = |accelerator: &_| hardware.container_edits(accelerator);
        let record = self.with_ledger(|ledger| {
            plan(&self.identity, claim, allocations, inventory, stale.unwrap_or(ledger), edits)
        })?;
        self.insert(&record)?;
        Ok(record)
    }

    /// What comes after the record was kept.
    pub(crate) fn carry_out(&self, record: Record) -> Result<Vec<PreparedDevice>, OperationError> {
        self.undoing_skipped.set(self.plant == Some(Plant::UndoSkipped));
        let done = execute(self, &record.steps(&self.identity)?, 1);
        self.undoing_skipped.set(false);
        done.map_err(|failed| failed.cause)?;
        Ok(record.devices)
    }

    pub(crate) fn prepared_before(&self, record: Record) -> Result<Vec<PreparedDevice>, OperationError> {
        let nothing = Inventory::default();
        let inventory = self.observed.as_ref().unwrap_or(&nothing);
        for device in &record.devices {
            inventory.ready(&device.device)?;
        }
        self.mend(&record.claim.uid)?;
        Ok(record.devices)
    }

    fn mend(&self, uid: &ClaimUid) -> Result<(), OperationError> {
        let Some(record) = self.recall(uid)? else { return Ok(()) };
        let steps = record.steps(&self.identity)?;
        let whole = self.disk.0.borrow().records.get(uid).is_some_and(|bytes| decode(bytes).as_ref() == Some(&record));
        if !whole {
            self.insert(&record)?;
        }
        repair(self, &steps[1..])?;
        Ok(())
    }

    pub(crate) fn forget(&self, uid: &ClaimUid) -> Result<(), OperationError> {
        let Some(record) = self.recall(uid)? else {
            let file = self.identity.cdi_file(uid)?;
            self.on_disk(|files| files.remove_spec(&file))?;
            return Ok(self.remove(uid)?);
        };
        let mut left = revert(self, &record.steps(&self.identity)?);
        left.pop().map_or(Ok(()), |error| Err(error.into()))
    }

    /// One operation on the disk, unless the agent is dead; it dies if the operation says so.
    fn on_disk<T>(&self, work: impl FnOnce(&mut Files) -> Result<T, Trouble>) -> Result<T, Trouble> {
        if self.dead.get() {
            return Err(Trouble::Died);
        }
        let result = work(&mut self.disk.0.borrow_mut());
        if matches!(result, Err(Trouble::Died)) {
            self.dead.set(true);
        }
        result
    }

    /// Reads the records anew if another agent has changed them.
    fn refresh(&self) -> Result<(), Trouble> {
        let mut known = self.known.borrow_mut();
        self.on_disk(|files| {
            if known.changes != Some(files.changes) {
                known.ledger = Ledger::default();
                files.load(&self.identity.boot_id).into_iter().for_each(|record| known.ledger.insert(record));
                known.changes = Some(files.changes);
            }
            Ok(())
        })
    }

    fn announce(&self) -> Result<(), Trouble> {
        let mut known = self.known.borrow_mut();
        let next = known.changes.unwrap_or_default().wrapping_add(1);
        self.on_disk(|files| files.announce(next))?;
        known.changes = Some(next);
        Ok(())
    }

    fn insert(&self, record: &Record) -> Result<(), Trouble> {
        self.refresh()?;
        self.announce()?;
        let lost = self.plant == Some(Plant::RecordLost)
            && self.known.borrow().changes.is_some_and(|changes| changes % 8 == 0);
        if !lost {
            self.on_disk(|files| files.write_record(record))?;
        }
        self.known.borrow_mut().ledger.insert(record.clone());
        Ok(())
    }

    fn remove(&self, uid: &ClaimUid) -> Result<(), Trouble> {
        self.refresh()?;
        self.announce()?;
        self.on_disk(|files| files.remove_record(uid))?;
        self.known.borrow_mut().ledger.remove(uid);
        Ok(())
    }
}

impl Executor for Agent {
    type Error = Trouble;

    fn apply(&self, step: &Step) -> Result<(), Trouble> {
        match step {
            Step::Keep(record) => self.insert(record),
            Step::Describe { file, spec } => self.on_disk(|files| files.write_spec(file, spec)),
        }
    }

    fn undo(&self, step: &Step) -> Result<(), Trouble> {
        if self.undoing_skipped.get() {
            return Ok(());
        }
        match step {
            Step::Keep(record) => self.remove(&record.claim.uid),
            Step::Describe { file, .. } => self.on_disk(|files| files.remove_spec(file)),
        }
    }

    fn holds(&self, step: &Step) -> bool {
        let files = self.disk.0.borrow();
        match step {
            Step::Keep(record) => files.records.contains_key(&record.claim.uid),
            Step::Describe { file, spec } => files.read_spec(file).as_ref() == Some(spec.as_ref()),
        }
    }
}
