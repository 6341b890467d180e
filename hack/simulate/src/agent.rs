//! One agent: the shells of `kubelet-plugin/src` (ledger, disk, claims, hardware) over the core, without threads. What
//! runs there without a pause between two waits is one function here.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use tessera_core::{
    ClaimError, ClaimRef, ClaimUid, Doubts, Executor, Granted, Identity, InUse, Inventory, Ledger, Part,
    PreparedDevice, Record, Refusal, Step, StoredRecord, allocations, execute, plan, repair, revert, stands,
};
use tessera_vocabulary::DeviceName;

use crate::call::Call;
use crate::claim::{self, Claim};
use crate::disk::{Disk, Files, Trouble};
use crate::hardware::Hardware;
use crate::publisher::Publisher;
use crate::server::{Refused, Server};
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
    doubts: Doubts,
    /// How often the ledger was compared with the kubelet's pods.
    compared: u32,
}

/// A record that could not be read spares its spec for so many comparisons.
const SPARED_ROUNDS: u32 = 2;

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
            doubts: Doubts::default(),
            compared: 0,
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
        let (present, spared): (Vec<_>, _) = {
            let files = self.disk.0.borrow();
            (files.specs.keys().cloned().collect(), self.spared(&files))
        };
        for file in present {
            if let Some(uid) = file.transient_id(kind) {
                if spared.iter().any(|spared| spared.as_str() == uid) {
                    continue;
                }
                let known = uid.parse().is_ok_and(|uid| self.recall(&uid).is_ok_and(|record| record.is_some()));
                if !known {
                    let _ = self.on_disk(|files| files.remove_spec(&file));
                }
            }
        }
    }

    /// The claims whose records could not be read and were not made anew since.
    fn unread(&self, files: &Files) -> BTreeSet<ClaimUid> {
        let mut recorded = files.recorded();
        self.with_ledger(|ledger| recorded.retain(|uid| ledger.get(uid).is_none()));
        recorded
    }

    /// Those of them that may be in use.
    pub(crate) fn spared(&self, files: &Files) -> BTreeSet<ClaimUid> {
        if self.compared < SPARED_ROUNDS { self.unread(files) } else { BTreeSet::new() }
    }

    /// Compares the ledger with the kubelet's pods and the API server, as `kubelet-plugin/src/reconciler.rs` does. Claims
    /// that a call works on are left to it: the agent waits for them, the simulation cannot.
    pub(crate) fn compare(&mut self, claims: &[Claim], server: &Server, hardware: &Hardware) {
        let mut in_use = InUse::default();
        for claim in claims {
            for device in claim.answer.iter().flatten() {
                let (namespace, name) = claim.reference.full_name();
                in_use.insert(namespace, name, device.device.to_string());
            }
        }
        let busy: BTreeSet<_> = self.calls.iter().map(|call| call.claim.uid.clone()).collect();
        if self.refresh().is_err() {
            return;
        }
        let ledger = self.ledger();
        let is_gone = |claim: &ClaimRef| match claim::read(claims, claim, &self.identity, server) {
            Ok(object) => !stands(claim, Some(&object), &self.identity),
            Err(refused) => refused == Refused::NotFound,
        };
        let unused = ledger.records().filter(|record| !in_use.covers(record)).map(|record| &record.claim);
        let gone = unused.filter(|claim| is_gone(claim)).map(|claim| claim.uid.clone()).collect();
        for uid in self.doubts.orphans(gone).difference(&busy) {
            let _ = self.forget(uid);
        }
        let recordless = in_use.without_record(&ledger);
        let certain = self.doubts.recordless(recordless.clone());
        let unread = self.unread(&self.disk.0.borrow());
        for claim in claims.iter().filter(|claim| claim.exists && recordless.contains(&claim.reference.full_name())) {
            let uid = claim.uid();
            if !busy.contains(uid) && (certain.contains(&claim.reference.full_name()) || unread.contains(uid)) {
                let _ = self.rebuild(&claim.reference, claims, server, hardware);
            }
        }
        self.compared += 1;
    }

    fn rebuild(
        &self,
        claim: &ClaimRef,
        claims: &[Claim],
        server: &Server,
        hardware: &Hardware,
    ) -> Result<(), OperationError> {
        let object = claim::read(claims, claim, &self.identity, server)?;
        let granted = allocations(&object, claim, &self.identity)?;
        if !granted.allocations.is_empty() {
            let record = self.reserve(claim, &granted, None, hardware)?;
            self.carry_out(record)?;
        }
        Ok(())
    }

    pub(crate) fn recall(&self, uid: &ClaimUid) -> Result<Option<Record>, OperationError> {
        self.refresh()?;
        Ok(self.with_ledger(|ledger| ledger.get(uid).map(|stored| stored.record().clone())))
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
        granted: &Granted,
        stale: Option<&Ledger>,
        hardware: &Hardware,
    ) -> Result<Record, OperationError> {
        let nothing = Inventory::default();
        let inventory = self.observed.as_ref().unwrap_or(&nothing);
        self.refresh()?;
        let edits = |part: Part<'_>| hardware.container_edits(part.accelerator());
        let record =
            self.with_ledger(|ledger| plan(&self.identity, claim, granted, inventory, stale.unwrap_or(ledger), edits))?;
        self.insert(StoredRecord::encode(record.clone()).map_err(|_| Trouble::Refused)?)?;
        Ok(record)
    }

    /// What comes after the record was kept.
    pub(crate) fn carry_out(&self, record: Record) -> Result<Vec<PreparedDevice>, OperationError> {
        self.undoing_skipped.set(self.plant == Some(Plant::UndoSkipped));
        let done = execute(self, &record.steps(&self.identity)?);
        if let Err(failed) = &done
            && failed.left.is_empty()
        {
            let _ = self.forget(&record.claim.uid);
        }
        self.undoing_skipped.set(false);
        done.map_err(|failed| failed.cause)?;
        Ok(record.devices)
    }

    pub(crate) fn prepared_before(&self, record: Record) -> Result<Vec<PreparedDevice>, OperationError> {
        let nothing = Inventory::default();
        let inventory = self.observed.as_ref().unwrap_or(&nothing);
        for device in &record.devices {
            inventory.check(&device.device)?;
        }
        self.mend(&record.claim.uid)?;
        Ok(record.devices)
    }

    fn mend(&self, uid: &ClaimUid) -> Result<(), OperationError> {
        self.refresh()?;
        let Some(stored) = self.with_ledger(|ledger| ledger.get(uid).cloned()) else { return Ok(()) };
        if !self.disk.0.borrow().holds_record(&stored) {
            self.insert(stored.clone())?;
        }
        repair(self, &stored.record().steps(&self.identity)?)?;
        Ok(())
    }

    pub(crate) fn forget(&self, uid: &ClaimUid) -> Result<(), OperationError> {
        match self.recall(uid)? {
            Some(record) => {
                if let Some(error) = revert(self, &record.steps(&self.identity)?).pop() {
                    return Err(error.into());
                }
            }
            None => {
                let file = self.identity.cdi_file(uid)?;
                self.on_disk(|files| files.remove_spec(&file))?;
            }
        }
        Ok(self.remove(uid)?)
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
                files.load(&self.identity.boot_id).into_iter().for_each(|stored| known.ledger.insert(stored));
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

    fn insert(&self, stored: StoredRecord) -> Result<(), Trouble> {
        self.refresh()?;
        self.announce()?;
        let lost = self.plant == Some(Plant::RecordLost)
            && self.known.borrow().changes.is_some_and(|changes| changes % 8 == 0);
        if !lost {
            self.on_disk(|files| files.write_record(&stored))?;
        }
        self.known.borrow_mut().ledger.insert(stored);
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
            Step::Describe { file, spec } => self.on_disk(|files| files.write_spec(file, spec)),
        }
    }

    fn undo(&self, step: &Step) -> Result<(), Trouble> {
        if self.undoing_skipped.get() {
            return Ok(());
        }
        match step {
            Step::Describe { file, .. } => self.on_disk(|files| files.remove_spec(file)),
        }
    }

    fn holds(&self, step: &Step) -> bool {
        match step {
            Step::Describe { file, spec } => self.disk.0.borrow().holds_spec(file, spec),
        }
    }
}
