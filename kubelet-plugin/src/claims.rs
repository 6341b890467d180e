//! Claims: prepared, answered again, undone. Claims run side by side; only calls for the same claim wait for each
//! other.
//!
//! Files are written on the async workers: both directories are in memory, and handing the work to another thread would
//! take as long as the work. What may take long (hardware, the API server) must not be done so.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use kube::Client;
use tessera_core::{
    Allocation, ClaimError, ClaimRef, ClaimUid, Identity, Inventory, Ledger, PreparedDevice, Record, Refusal,
    StoredRecord, allocations, execute, plan, repair, revert,
};
use tessera_driver::Host;
use tracing::{info, warn};

use crate::api::{self, ClaimReadError};
use crate::disk::{Disk, DiskError};
use crate::hardware::Observed;
use crate::ledger::Transaction;
use crate::metrics::{Metrics, Operation};
use crate::notices::{Notice, Notices};

/// Before the first look at the hardware.
static NOTHING: Inventory = Inventory::EMPTY;

/// Everything about the claims of one driver on this node.
pub(crate) struct Claims {
    identity: Identity,
    host: Host,
    client: Client,
    observed: Observed,
    disk: Disk,
    /// One lock a claim that is being worked on.
    busy: Mutex<HashMap<ClaimUid, Arc<tokio::sync::Mutex<()>>>>,
    metrics: Metrics,
    notices: Notices,
}

/// Why a claim could not be prepared or undone. The texts land in events of pods.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperationError {
    #[error(transparent)]
    Read(#[from] ClaimReadError),
    #[error(transparent)]
    Claim(#[from] ClaimError),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Name(#[from] cdi::InvalidName),
    #[error("an internal error; see the agent's log")]
    Internal,
}

/// What the parts of [`Claims`] are made of.
pub(crate) struct Parts {
    pub(crate) identity: Identity,
    pub(crate) host: Host,
    pub(crate) client: Client,
    pub(crate) observed: Observed,
    pub(crate) disk: Disk,
    pub(crate) metrics: Metrics,
    pub(crate) notices: Notices,
}

impl Claims {
    /// Takes over what an earlier agent left: running containers rely on it, and nobody repeats its calls.
    pub(crate) fn take_over(parts: Parts) -> Result<Self, OperationError> {
        let Parts { identity, host, client, observed, disk, metrics, notices } = parts;
        let claims = Self { identity, host, client, observed, disk, busy: Mutex::default(), metrics, notices };
        let prepared = claims.in_ledger(|ledger| Ok(ledger.ledger().records().count()))?;
        info!(claims = prepared, "took over the ledger");
        if claims.disk.ledger.is_alone() {
            // What an agent that died in the middle of a write left; one that lives may be about to use it.
            claims.disk.specs.sweep().inspect_err(|error| warn!(%error, "cannot clear up the CDI directory")).ok();
        }
        claims.sweep(true);
        Ok(claims)
    }

    /// Does again what is missing of claims, and removes what belongs to none: at the start and every minute, since
    /// running containers rely on it and nobody asks again. What fails is told and tried again.
    ///
    /// A claim whose record could not be read may still be in use: it is `spared` until that is known.
    pub(crate) fn sweep(&self, spared: bool) {
        for claim in self.ledger().records().map(|record| &record.claim) {
            if let Err(error) = self.mend(claim) {
                warn!(%claim, uid = %claim.uid, %error, "cannot mend a claim's files");
            }
        }
        let spared = match self.disk.ledger.unread().map(|unread| if spared { unread } else { BTreeSet::new() }) {
            Ok(spared) => spared,
            Err(error) => return warn!(%error, "cannot look for CDI specs that belong to no claim"),
        };
        let kind = self.identity.cdi_kind();
        let present = self.disk.specs.list(&cdi::FileName::transient_prefix(kind)).unwrap_or_else(|error| {
            warn!(%error, "cannot look for CDI specs that belong to no claim");
            Vec::new()
        });
        for file in present {
            let Some(uid) = file.transient_id(kind) else { continue };
            if spared.iter().any(|spared| spared.as_str() == uid) {
                continue;
            }
            if let Err(error) = self.remove_stray(&file, uid) {
                warn!(%file, %error, "cannot remove a CDI spec that belongs to no claim");
            }
        }
    }

    /// What is prepared.
    pub(crate) fn ledger(&self) -> Ledger {
        self.disk.ledger.exclusively(|ledger| ledger.ledger().clone()).unwrap_or_else(|error| {
            warn!(%error, "cannot read the ledger");
            Ledger::default()
        })
    }

    /// The claims whose records could not be read and were not made anew since.
    pub(crate) fn unread(&self) -> BTreeSet<ClaimUid> {
        self.disk.ledger.unread().unwrap_or_else(|error| {
            warn!(%error, "cannot look for records that could not be read");
            BTreeSet::new()
        })
    }

    /// Removes a spec that no record owns. While nobody else changes the ledger: a record is there before its spec.
    fn remove_stray(&self, file: &cdi::FileName, uid: &str) -> Result<(), DiskError> {
        let removed = self.disk.ledger.exclusively(|ledger| {
            if uid.parse().is_ok_and(|uid| ledger.ledger().get(&uid).is_some()) {
                return Ok(false);
            }
            self.disk.specs.remove(file)
        })??;
        if removed {
            self.notices.tell(Notice::StrayRemoved { file: file.to_string() });
        }
        Ok(())
    }

    /// Prepares a claim; a repeated call gives the same answer.
    ///
    /// # Errors
    /// Nothing is left behind then.
    pub(crate) async fn prepare(&self, claim: &ClaimRef) -> Result<Vec<PreparedDevice>, OperationError> {
        let started = Instant::now();
        let result = self.prepare_exclusively(claim).await;
        self.metrics.operation(Operation::Prepare, result.is_ok(), started.elapsed());
        match &result {
            Ok(devices) => info!(%claim, uid = %claim.uid, devices = devices.len(), "prepared"),
            Err(error) => warn!(%claim, uid = %claim.uid, %error, "not prepared"),
        }
        result
    }

    async fn prepare_exclusively(&self, claim: &ClaimRef) -> Result<Vec<PreparedDevice>, OperationError> {
        let _busy = self.exclusively(&claim.uid).await;
        if let Some(devices) = self.prepared_before(claim)? {
            return Ok(devices);
        }
        let object = api::claim(&self.client, &claim.namespace, &claim.name).await?;
        let allocations = allocations(&object, claim, &self.identity)?;
        if allocations.is_empty() {
            return Ok(Vec::new());
        }
        self.carry_out(claim, &allocations)
    }

    /// Answers from the ledger, once it is true that the container can be started with the answer.
    fn prepared_before(&self, claim: &ClaimRef) -> Result<Option<Vec<PreparedDevice>>, OperationError> {
        let (devices, mended) = self.in_ledger(|ledger| {
            let Some(stored) = ledger.ledger().get(&claim.uid) else { return Ok((None, false)) };
            let inventory = self.observed.borrow();
            for device in &stored.record().devices {
                inventory.as_ref().unwrap_or(&NOTHING).ready(&device.device)?;
            }
            let devices = stored.record().devices.clone();
            Ok((Some(devices), self.mend_in(ledger, &claim.uid)?))
        })?;
        self.tell_if(mended, claim);
        Ok(devices)
    }

    /// Does again what is missing or damaged of a claim, if it is still prepared.
    fn mend(&self, claim: &ClaimRef) -> Result<(), OperationError> {
        let mended = self.in_ledger(|ledger| self.mend_in(ledger, &claim.uid))?;
        self.tell_if(mended, claim);
        Ok(())
    }

    /// The same while nobody else changes the ledger: a claim that is undone meanwhile must not come back. Says whether
    /// there was anything to do.
    fn mend_in(&self, ledger: &mut Transaction<'_>, uid: &ClaimUid) -> Result<bool, OperationError> {
        let rewritten = ledger.mend(uid).map_err(DiskError::from)?;
        let Some(stored) = ledger.ledger().get(uid) else { return Ok(false) };
        let steps = stored.record().steps(&self.identity)?;
        Ok(repair(&self.disk, &steps)? > 0 || rewritten)
    }

    fn tell_if(&self, mended: bool, claim: &ClaimRef) {
        if mended {
            self.notices.tell(Notice::FilesRewritten { claim: claim.clone() });
        }
    }

    /// Does all that a claim needs, or nothing.
    fn carry_out(&self, claim: &ClaimRef, allocations: &[Allocation]) -> Result<Vec<PreparedDevice>, OperationError> {
        let record = self.reserve(claim, allocations)?;
        if let Err(failed) = execute(&self.disk, &record.steps(&self.identity)?) {
            for error in &failed.left {
                warn!(%claim, uid = %claim.uid, %error, "not undone; the claim keeps it until the kubelet calls again");
            }
            if failed.left.is_empty()
                && let Err(error) = self.forget(&claim.uid)
            {
                warn!(%claim, uid = %claim.uid, %error, "the record stays until the kubelet calls again");
            }
            return Err(failed.cause.into());
        }
        Ok(record.devices)
    }

    /// Plans, and keeps the plan in the ledger at once, so that no other claim can plan with the same device.
    fn reserve(&self, claim: &ClaimRef, allocations: &[Allocation]) -> Result<Record, OperationError> {
        let inventory = self.observed.borrow().clone().unwrap_or_default();
        let edits = |accelerator: &tessera_driver::Accelerator| {
            accelerator.container_edits(&self.host).map_err(|error| error.to_string())
        };
        self.in_ledger(|ledger| {
            let record = plan(&self.identity, claim, allocations, &inventory, ledger.ledger(), edits)?;
            let stored = StoredRecord::encode(record.clone()).map_err(|_| OperationError::Internal)?;
            ledger.insert(stored).map_err(DiskError::from)?;
            Ok(record)
        })
    }

    fn in_ledger<T>(
        &self,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T, OperationError>,
    ) -> Result<T, OperationError> {
        self.disk.ledger.exclusively(work).map_err(DiskError::from)?
    }

    /// Undoes what was prepared for a claim. Needs no API server, and succeeds for what is unknown.
    pub(crate) async fn unprepare(&self, claim: &ClaimRef) -> Result<(), OperationError> {
        let started = Instant::now();
        let result = {
            let _busy = self.exclusively(&claim.uid).await;
            self.forget(&claim.uid)
        };
        self.metrics.operation(Operation::Unprepare, result.is_ok(), started.elapsed());
        match &result {
            Ok(()) => info!(%claim, uid = %claim.uid, "unprepared"),
            Err(error) => warn!(%claim, uid = %claim.uid, %error, "not unprepared"),
        }
        result
    }

    /// What cannot be removed now keeps its record, and the kubelet calls again. While nobody else changes the ledger:
    /// another agent that still sees the record would write again what was just removed.
    fn forget(&self, uid: &ClaimUid) -> Result<(), OperationError> {
        self.in_ledger(|ledger| {
            match ledger.ledger().get(uid).map(|stored| stored.record().steps(&self.identity)).transpose()? {
                Some(steps) => {
                    if let Some(error) = revert(&self.disk, &steps).pop() {
                        return Err(error.into());
                    }
                }
                // Nothing is known of it, which does not mean that nothing is there.
                None => self.disk.remove_spec(&self.identity.cdi_file(uid)?)?,
            }
            Ok(ledger.remove(uid).map_err(DiskError::from)?)
        })
    }

    /// Waits until no other call works on the claim.
    async fn exclusively(&self, uid: &ClaimUid) -> Busy<'_> {
        let lock = self.busy().entry(uid.clone()).or_default().clone();
        Busy { claims: self, uid: uid.clone(), guard: Some(lock.lock_owned().await) }
    }

    fn busy(&self) -> MutexGuard<'_, HashMap<ClaimUid, Arc<tokio::sync::Mutex<()>>>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A claim that is being worked on.
struct Busy<'a> {
    claims: &'a Claims,
    uid: ClaimUid,
    guard: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.guard.take();
        let mut busy = self.claims.busy();
        // Only the map has it: nobody waits.
        if busy.get(&self.uid).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            busy.remove(&self.uid);
        }
    }
}
