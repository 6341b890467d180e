//! Claims: prepared, answered again, undone. Claims run side by side; only calls for the same claim wait for each
//! other.
//!
//! Files are written on the async workers: both directories are in memory, and handing the work to another thread would
//! take as long as the work. What may take long (hardware, the API server) must not be done so.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use kube::Client;
use tessera_core::{
    Allocation, ClaimError, ClaimRef, ClaimUid, Identity, Inventory, PreparedDevice, Record, Refusal, allocations,
    execute, plan, repair, revert,
};
use tessera_driver::Root;
use tracing::{info, warn};

use crate::api::{self, ClaimReadError};
use crate::disk::{Disk, DiskError};
use crate::hardware::Observed;
use crate::ledger::Transaction;
use crate::metrics::{Metrics, Operation};

/// Everything about the claims of one driver on this node.
pub(crate) struct Claims {
    identity: Identity,
    root: Root,
    client: Client,
    observed: Observed,
    disk: Disk,
    /// One lock a claim that is being worked on.
    busy: Mutex<HashMap<ClaimUid, Arc<tokio::sync::Mutex<()>>>>,
    metrics: Metrics,
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
    pub(crate) root: Root,
    pub(crate) client: Client,
    pub(crate) observed: Observed,
    pub(crate) disk: Disk,
    pub(crate) metrics: Metrics,
}

impl Claims {
    /// Takes over what an earlier agent left: running containers rely on it, and nobody repeats its calls.
    pub(crate) fn take_over(parts: Parts) -> Result<Self, OperationError> {
        let Parts { identity, root, client, observed, disk, metrics } = parts;
        let claims = Self { identity, root, client, observed, disk, busy: Mutex::default(), metrics };
        let ledger = claims.disk.ledger.exclusively(|ledger| ledger.ledger().clone()).map_err(DiskError::from)?;
        info!(claims = ledger.records().count(), "took over the ledger");
        if claims.disk.ledger.is_alone() {
            // What an agent that died in the middle of a write left; one that lives may be about to use it.
            claims.disk.specs.sweep().inspect_err(|error| warn!(%error, "cannot clear up the CDI directory")).ok();
        }
        claims.sweep();
        Ok(claims)
    }

    /// Does again what is missing of claims, and removes what belongs to none: at the start and every minute, since
    /// running containers rely on it and nobody asks again. What fails is told and tried again.
    pub(crate) fn sweep(&self) {
        let uids = |ledger: &mut Transaction<'_>| -> Vec<_> {
            ledger.ledger().records().map(|record| record.claim.uid.clone()).collect()
        };
        let prepared = self.disk.ledger.exclusively(uids).unwrap_or_else(|error| {
            warn!(%error, "cannot read the ledger");
            Vec::new()
        });
        for uid in &prepared {
            if let Err(error) = self.mend(uid) {
                warn!(%uid, %error, "cannot mend a claim's files");
            }
        }
        let kind = self.identity.cdi_kind();
        let present = self.disk.specs.list(&cdi::FileName::transient_prefix(kind)).unwrap_or_else(|error| {
            warn!(%error, "cannot look for CDI specs that belong to no claim");
            Vec::new()
        });
        for file in present {
            if let Some(uid) = file.transient_id(kind).map(str::to_owned)
                && let Err(error) = self.remove_stray(&file, &uid)
            {
                warn!(%file, %error, "cannot remove a CDI spec that belongs to no claim");
            }
        }
    }

    /// Removes a spec that no record owns. While nobody else changes the ledger: a record is there before its spec.
    fn remove_stray(&self, file: &cdi::FileName, uid: &str) -> Result<(), DiskError> {
        self.disk.ledger.exclusively(|ledger| {
            if uid.parse().is_ok_and(|uid| ledger.ledger().get(&uid).is_some()) {
                return Ok(());
            }
            info!(%file, "removing a CDI spec that belongs to no claim");
            self.disk.specs.remove(file).map(|_| ()).map_err(DiskError::from)
        })?
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
        if let Some(record) = self.recall(&claim.uid)? {
            return self.prepared_before(record);
        }
        let object = api::claim(&self.client, claim).await?;
        let allocations = allocations(&object, claim, &self.identity)?;
        if allocations.is_empty() {
            return Ok(Vec::new());
        }
        self.carry_out(claim, &allocations)
    }

    fn recall(&self, uid: &ClaimUid) -> Result<Option<Record>, OperationError> {
        let recalled = self.disk.ledger.exclusively(|ledger| ledger.ledger().get(uid).cloned());
        Ok(recalled.map_err(DiskError::from)?)
    }

    /// Plans, and keeps the plan in the ledger at once, so that no other claim can plan with the same device.
    fn reserve(&self, claim: &ClaimRef, allocations: &[Allocation]) -> Result<Record, OperationError> {
        let inventory = self.inventory();
        let edits = |accelerator: &tessera_driver::Accelerator| {
            accelerator.container_edits(&self.root).map_err(|error| error.to_string())
        };
        let reserved = self.disk.ledger.exclusively(|ledger| {
            let record = plan(&self.identity, claim, allocations, &inventory, ledger.ledger(), edits)?;
            ledger.insert(&record).map_err(DiskError::from)?;
            Ok(record)
        });
        reserved.map_err(DiskError::from)?
    }

    /// Does all that a claim needs, or nothing.
    fn carry_out(&self, claim: &ClaimRef, allocations: &[Allocation]) -> Result<Vec<PreparedDevice>, OperationError> {
        let record = self.reserve(claim, allocations)?;
        // The first step is to keep the record, and that is done.
        execute(&self.disk, &record.steps(&self.identity)?, 1).map_err(|failed| {
            for error in &failed.left {
                warn!(%claim, uid = %claim.uid, %error, "not undone; the claim keeps it until the kubelet calls again");
            }
            failed.cause
        })?;
        Ok(record.devices)
    }

    /// Answers from the ledger, once it is true that the container can be started with the answer.
    fn prepared_before(&self, record: Record) -> Result<Vec<PreparedDevice>, OperationError> {
        let inventory = self.inventory();
        for device in &record.devices {
            inventory.ready(&device.device)?;
        }
        self.mend(&record.claim.uid)?;
        Ok(record.devices)
    }

    /// Does again what is missing or damaged of a claim, if it is still prepared. While nobody else changes the ledger:
    /// a claim that is undone meanwhile must not come back.
    fn mend(&self, uid: &ClaimUid) -> Result<(), OperationError> {
        self.disk
            .ledger
            .exclusively(|ledger| {
                let Some(record) = ledger.ledger().get(uid).cloned() else { return Ok(()) };
                let steps = record.steps(&self.identity)?;
                let kept = ledger.keep(&record).map_err(DiskError::from)?;
                if repair(&self.disk, &steps[1..])? > 0 || !kept {
                    warn!(claim = %record.claim, %uid, "wrote lost or damaged files of a claim again");
                }
                Ok(())
            })
            .map_err(DiskError::from)?
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

    /// What cannot be removed now keeps its record, and the kubelet calls again.
    fn forget(&self, uid: &ClaimUid) -> Result<(), OperationError> {
        let Some(record) = self.recall(uid)? else {
            return Ok(self.disk.remove_strays(&self.identity.cdi_file(uid)?, uid)?);
        };
        let mut left = revert(&self.disk, &record.steps(&self.identity)?);
        left.pop().map_or(Ok(()), |error| Err(error.into()))
    }

    fn inventory(&self) -> Inventory {
        self.observed.borrow().clone().unwrap_or_default()
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
