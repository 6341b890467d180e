//! One agent: the shells of `kubelet-plugin/src` (ledger, disk, claims, hardware) over the core, without threads. What
//! runs there without a pause between two waits is one function here.

mod desk;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use tessera_core::{
    ClaimError, ClaimRef, ClaimUid, Condition, Device, Doubts, Executor, Granted, Identity, InUse, Inventory, Ledger,
    Offering, Part, PreparedDevice, Record, Refusal, Step, StoredRecord, complete, execute, plan, repair, stands,
};
use tessera_driver::{Accelerator, Discovery, Work, WorkError};
use tessera_vocabulary::PciAddress;

use crate::call::{Call, Wish};
use crate::claim::{self, Claim};
use crate::disk::{Disk, Files, Trouble};
use crate::hardware::Hardware;
use crate::publisher::Publisher;
use crate::server::{Refused, Server};
use crate::setting::Plant;
pub(crate) use desk::Desk;

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
    Work(#[from] WorkError),
    #[error(transparent)]
    Name(#[from] cdi::InvalidName),
    #[error("it is not known what pods have")]
    LoansUnknown,
    #[error("the kubelet has asked for it since")]
    AskedFor,
}

/// What is known of a claim that is prepared.
pub(crate) enum Before {
    Nothing,
    /// All that it needs is in files.
    Ready(Vec<PreparedDevice>),
    /// Something was done to the hardware, or begun.
    Worked(Box<Record>),
}

/// The records as they were after a number of changes.
#[derive(Debug, Default)]
struct Known {
    ledger: Ledger,
    /// Whether more is known of what pods have than is on disk.
    loans_unwritten: bool,
    changes: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Agent {
    /// Told apart from the agents before and beside it.
    pub(crate) number: u32,
    pub(crate) identity: Identity,
    disk: Rc<Disk>,
    pub(crate) plant: Option<Plant>,
    alone: bool,
    known: RefCell<Known>,
    /// Nothing that it does has an effect any more; it is taken away after the step.
    pub(crate) dead: Cell<bool>,
    undoing_skipped: Cell<bool>,
    pub(crate) calls: Vec<Call>,
    /// What the hardware was like at the last look, but for what was undone since.
    pub(crate) observed: RefCell<Option<Inventory>>,
    /// What it was like at the last look.
    seen: Inventory,
    /// A look that has begun, and how often the hardware had been changed by then.
    looking: Option<(Result<Discovery, &'static str>, u64)>,
    /// How often this agent changed the hardware.
    changes: Cell<u64>,
    pub(crate) publisher: Publisher,
    pub(crate) next_look: u64,
    pub(crate) next_sweep: u64,
    pub(crate) desk: Desk,
    doubts: Doubts,
    /// How often the ledger was compared with the kubelet's pods.
    compared: u32,
}

/// A record that could not be read spares its spec for so many comparisons.
const SPARED_ROUNDS: u32 = 2;

impl Agent {
    pub(crate) fn new(
        number: u32,
        identity: Identity,
        disk: Rc<Disk>,
        alone: bool,
        offering: Offering,
        plant: Option<Plant>,
    ) -> Self {
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
            observed: RefCell::default(),
            seen: Inventory::new(offering),
            looking: None,
            changes: Cell::new(0),
            publisher: Publisher::new(),
            next_look: 0,
            next_sweep: 0,
            desk: Desk::default(),
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

    /// Whether it knows the records as they are.
    pub(crate) fn is_up_to_date(&self, files: &Files) -> bool {
        self.known.borrow().changes == Some(files.changes)
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.known.borrow().ledger.clone()
    }

    /// A look at the hardware, from its beginning to its end.
    pub(crate) fn look(&mut self, hardware: &Hardware) {
        self.begin_look(hardware);
        self.end_look(hardware);
    }

    pub(crate) fn begin_look(&mut self, hardware: &Hardware) {
        // So that whose anything is that is seen is known, also if another agent undoes it right then.
        let _ = self.refresh();
        self.looking = Some((hardware.discover(), self.changes.get()));
    }

    /// What was seen before this agent changed something is worth nothing: it looks again.
    pub(crate) fn end_look(&mut self, hardware: &Hardware) {
        let Some((mut found, changes)) = self.looking.take() else { return };
        let _ = self.refresh();
        if changes != self.changes.get() {
            found = hardware.discover();
        }
        let in_use = self.known.borrow().ledger.accelerators_in_use();
        self.seen = match found {
            Ok(found) => self.seen.after(&found, &in_use),
            Err(cause) => self.seen.unreachable(cause),
        };
        self.observed.replace(Some(self.seen.clone()));
        self.recognize();
    }

    /// Something that a claim had was removed from the hardware: to be said before the ledger forgets whose it was.
    pub(crate) fn undone(&self, work: &Work) {
        if self.plant != Some(Plant::UndoingUntold) {
            self.changes.set(self.changes.get() + 1);
            let before = self.observed.take();
            self.observed.replace(before.map(|inventory| inventory.without(work)));
        }
    }

    /// Whether some call's work is on an accelerator now.
    pub(crate) fn works_on(&self, accelerator: PciAddress) -> bool {
        self.calls.iter().any(|call| call.works_on(accelerator))
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
                let known = |uid| self.with_ledger(|ledger| ledger.get(&uid).is_some());
                if self.refresh().is_ok() && !uid.parse().is_ok_and(known) {
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

    /// Compares the ledger with the kubelet's pods and the API server, as `kubelet-plugin/src/reconciler.rs` does. What is
    /// to be done is left as calls.
    pub(crate) fn compare(&mut self, claims: &[Claim], server: &Server) {
        let mut in_use = InUse::default();
        for claim in claims {
            for device in claim.answer.iter().flatten() {
                let (namespace, name) = claim.reference.full_name();
                in_use.insert(namespace, name, device.device.to_string());
            }
        }
        if self.refresh().is_err() {
            return;
        }
        let ledger = self.ledger();
        let is_gone = |claim: &ClaimRef| match claim::read(claims, claim, &self.identity, server) {
            Ok(object) => !stands(claim, Some(&object), &self.identity),
            Err(refused) => refused == Refused::NotFound,
        };
        let unused = ledger.records().filter(|record| !in_use.covers(record)).map(|record| &record.claim);
        let gone: Vec<_> = unused.filter(|claim| is_gone(claim)).collect();
        let orphans = self.doubts.orphans(gone.iter().map(|claim| claim.uid.clone()).collect());
        for claim in gone {
            if orphans.contains(&claim.uid) {
                self.calls.push(Call::internal(claim.clone(), Wish::Unprepare));
            } else {
                let _ = self.on_disk(|files| files.doubt(&claim.uid));
            }
        }
        let recordless = in_use.without_record(&ledger);
        let certain = self.doubts.recordless(recordless.clone());
        let unread = self.unread(&self.disk.0.borrow());
        for claim in claims.iter().filter(|claim| claim.exists && recordless.contains(&claim.reference.full_name())) {
            if certain.contains(&claim.reference.full_name()) || unread.contains(claim.uid()) {
                self.calls.push(Call::internal(claim.reference.clone(), Wish::Prepare));
            }
        }
        self.compared += 1;
    }

    /// What is known of a claim; one that is ready has its files then.
    pub(crate) fn before(&self, uid: &ClaimUid) -> Result<Before, OperationError> {
        self.refresh()?;
        let Some(record) = self.with_ledger(|ledger| ledger.get(uid).map(|stored| Record::clone(stored.record())))
        else {
            return Ok(Before::Nothing);
        };
        if !record.is_whole() || record.work().next().is_some() {
            return Ok(Before::Worked(Box::new(record)));
        }
        Ok(self.answer_again(record)?.map_or(Before::Nothing, Before::Ready))
    }

    /// The answer of a record whose work is known to hold; `None` if it is not prepared any more.
    pub(crate) fn answer_again(&self, record: Record) -> Result<Option<Vec<PreparedDevice>>, OperationError> {
        let inventory = self.inventory();
        for device in &record.devices {
            inventory.check(device)?;
        }
        let uid = &record.claim.uid;
        self.refresh()?;
        if !self.with_ledger(|ledger| ledger.get(uid).is_some_and(|stored| stored.record().is_whole())) {
            return Ok(None);
        }
        self.on_disk(|files| files.trust(uid))?;
        self.mend(uid)?;
        Ok(Some(record.devices))
    }

    /// Whether all members of a group answered at the last look.
    pub(crate) fn has_members(&self, group: &PreparedDevice) -> bool {
        let inventory = self.inventory();
        let ready = |device: &Device| device.condition == Condition::Ready && device.accelerator.has_driver_facts();
        group.uses.iter().all(|used| inventory.find(&used.accelerator).is_some_and(ready))
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
        if !self.knows_loans() {
            return Err(OperationError::LoansUnknown);
        }
        self.refresh()?;
        let mut inventory = self.inventory();
        if self.plant == Some(Plant::Adopted) {
            inventory = without_partitions(inventory);
        }
        let edits = |part: Part<'_>| hardware.container_edits(part);
        let mut record = self
            .with_ledger(|ledger| plan(&self.identity, claim, granted, &inventory, stale.unwrap_or(ledger), edits))?;
        if self.plant == Some(Plant::MemberNotHeld) {
            record.devices.iter_mut().for_each(|device| device.uses.truncate(device.uses.len().div_ceil(2)));
        }
        self.keep(record)
    }

    fn inventory(&self) -> Inventory {
        self.observed.borrow().clone().unwrap_or_default()
    }

    pub(crate) fn keep(&self, record: Record) -> Result<Record, OperationError> {
        self.insert(StoredRecord::encode(record.clone()).map_err(|_| Trouble::Refused)?)?;
        Ok(record)
    }

    /// Keeps what came of the work.
    pub(crate) fn complete(
        &self,
        record: Record,
        granted: &Granted,
        hardware: &Hardware,
    ) -> Result<Record, OperationError> {
        self.refresh()?;
        let inventory = self.inventory();
        let edits = |part: Part<'_>| hardware.container_edits(part);
        let record = self.with_ledger(|ledger| complete(&self.identity, record, granted, &inventory, ledger, edits))?;
        self.keep(record)
    }

    /// The last step.
    pub(crate) fn describe(&self, record: Record) -> Result<Vec<PreparedDevice>, OperationError> {
        self.undoing_skipped.set(self.plant == Some(Plant::UndoSkipped));
        let done = execute(self, &record.steps(&self.identity)?);
        self.undoing_skipped.set(false);
        done.map_err(|failed| failed.cause)?;
        Ok(record.devices)
    }

    pub(crate) fn undoes_nothing(&self) -> bool {
        self.plant == Some(Plant::UndoSkipped)
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

    /// Whether the kubelet has asked for a claim since it was in doubt whether anybody needs it. Then that is in doubt anew.
    pub(crate) fn was_asked_for(&self, uid: &ClaimUid) -> Result<bool, Trouble> {
        let was_asked_for = !self.disk.0.borrow().doubted.contains(uid);
        if was_asked_for && self.plant != Some(Plant::OrphanAnyhow) {
            self.on_disk(|files| files.doubt(uid))?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Removes the spec, and the record with it if nothing was done to the hardware; else says what was, and marks it.
    pub(crate) fn withdraw(&self, uid: &ClaimUid) -> Result<Option<Record>, OperationError> {
        self.refresh()?;
        let file = self.identity.cdi_file(uid)?;
        self.on_disk(|files| files.remove_spec(&file))?;
        let record = self.with_ledger(|ledger| ledger.get(uid).map(|stored| Record::clone(stored.record())));
        match record.filter(|record| record.work().next().is_some()) {
            Some(record) if record.ending || self.plant == Some(Plant::EndingUnmarked) => Ok(Some(record)),
            Some(record) => self.keep(Record { ending: true, ..record }).map(Some),
            None => {
                self.remove(uid)?;
                Ok(None)
            }
        }
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
                let before = std::mem::take(&mut known.ledger);
                let on_disk = files.load_loans(&self.identity.boot_id);
                let (loans, unwritten) = before.loans().after_reading(on_disk, known.loans_unwritten);
                known.ledger.lend(loans);
                known.loans_unwritten = unwritten;
                files.load(&self.identity.boot_id).into_iter().for_each(|stored| known.ledger.insert(stored));
                // What another agent has undone.
                before.work_that_is_not_in(&known.ledger).for_each(|work| self.undone(work));
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

    pub(crate) fn remove(&self, uid: &ClaimUid) -> Result<(), Trouble> {
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

/// For the planted bug: nothing is seen of what was made by hand.
fn without_partitions(inventory: Inventory) -> Inventory {
    let all = inventory.clone();
    let partitions = all.devices().iter().flat_map(|device| {
        let Accelerator { address, partitioning, .. } = &device.accelerator;
        let partitions = partitioning.iter().flat_map(|partitioning| &partitioning.partitions);
        partitions.map(|one| Work::Cut {
            accelerator: *address,
            uuid: device.accelerator.uuid().to_owned(),
            shape: one.shape,
            placement: one.placement,
        })
    });
    partitions.fold(inventory, |inventory, work| inventory.without(&work))
}
