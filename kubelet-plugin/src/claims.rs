//! Claims: prepared, answered again, undone. Claims run side by side; only calls for the same claim wait for each
//! other.
//!
//! Files are written on the async thread: both directories are in memory, and handing the work to another thread would
//! take as long as the work. What may take long (hardware, the API server) must not be done so.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use tessera_config::IommuBackendPolicy;
use tessera_core::{
    Answer, ClaimError, ClaimRef, ClaimUid, Granted, Identity, Ledger, Part, PreparedDevice, Record, Refusal,
    StoredRecord, allocations, complete, execute, plan, repair,
};
use tessera_driver::{Host, WorkError};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::api::{self, ClaimReadError};
use crate::disk::{Disk, DiskError};
use crate::hardware::{NOTHING, Observed};
use crate::ledger::Transaction;
use crate::locks::Locks;
use crate::metrics::{Metrics, Operation};
use crate::notices::{Notice, Notices};
use crate::works::Works;

/// So long a prepare waits until it is known what pods have without a claim, which is as soon as the hardware was looked at:
/// one that fails is tried again only after more than a minute, and the kubelet gives up on one after 45 seconds.
const LOANS: Duration = Duration::from_secs(30);

/// Everything about the claims of one driver on this node.
pub(crate) struct Claims {
    identity: Identity,
    host: Host,
    client: Client,
    observed: Observed,
    disk: Disk,
    works: Arc<Works>,
    /// Whether it is known what pods have without a claim.
    loans_known: watch::Receiver<bool>,
    /// Claims that are being worked on.
    busy: Locks<ClaimUid>,
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
    Work(#[from] WorkError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Name(#[from] cdi::InvalidName),
    #[error("it is not known yet which devices pods have without a claim; see the agent's log; this is tried again")]
    LoansUnknown,
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
    pub(crate) works: Arc<Works>,
    pub(crate) loans_known: watch::Receiver<bool>,
    pub(crate) metrics: Metrics,
    pub(crate) notices: Notices,
}

impl Claims {
    /// Takes over what an earlier agent left: running containers rely on it, and nobody repeats its calls.
    pub(crate) fn take_over(parts: Parts) -> Result<Self, OperationError> {
        let Parts { identity, host, client, observed, disk, works, loans_known, metrics, notices } = parts;
        let busy = Locks::default();
        let claims = Self { identity, host, client, observed, disk, works, loans_known, busy, metrics, notices };
        let prepared = claims.in_ledger(|ledger| Ok(ledger.ledger().records().count()))?;
        info!(driver = %claims.identity.driver, claims = prepared, "took over the ledger");
        claims.sweep(true);
        Ok(claims)
    }

    /// Does again what is missing of claims, and removes what belongs to none: at the start and every minute, since
    /// running containers rely on it and nobody asks again. What fails is told and tried again.
    ///
    /// A claim whose record could not be read may still be in use: it is `spared` until that is known.
    pub(crate) fn sweep(&self, spared: bool) {
        for claim in self.ledger().records().map(|record| &record.claim) {
            // What is missing of one that is being worked on is on its way.
            let Some(_busy) = self.busy.try_hold(claim.uid.clone()) else { continue };
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
    pub(crate) async fn prepare(&self, claim: &ClaimRef) -> Result<Vec<Answer>, OperationError> {
        let started = Instant::now();
        let result = self.prepare_exclusively(claim).await;
        self.metrics.operation(Operation::Prepare, result.is_ok(), started.elapsed());
        match &result {
            Ok((devices, Repeated(false))) => {
                let (claim, devices) = (claim.clone(), devices.len());
                after_the_answer(move || info!(%claim, uid = %claim.uid, devices, "prepared"));
            }
            // A kubelet that starts asks for every claim of every pod again, and nothing is done.
            Ok((devices, Repeated(true))) => {
                debug!(%claim, uid = %claim.uid, devices = devices.len(), "prepared before");
            }
            Err(error) => warn!(%claim, uid = %claim.uid, %error, "not prepared"),
        }
        result.map(|(devices, _)| devices)
    }

    async fn prepare_exclusively(&self, claim: &ClaimRef) -> Result<(Vec<Answer>, Repeated), OperationError> {
        let _busy = self.busy.hold(claim.uid.clone()).await;
        if let Some(devices) = self.prepared_before(claim).await? {
            return Ok((devices, Repeated(true)));
        }
        // On the heap, as all that may wait for more than files: a repeated call is not to carry it about.
        Box::pin(self.prepare_anew(claim)).await.map(|devices| (devices, Repeated(false)))
    }

    async fn prepare_anew(&self, claim: &ClaimRef) -> Result<Vec<Answer>, OperationError> {
        let question = api::claim(&self.client, &claim.namespace, &claim.name);
        let object = api::meanwhile(question, || self.host.look_ahead()).await?;
        let granted = allocations(&object, claim, &self.identity)?;
        if granted.allocations.is_empty() {
            return Ok(Vec::new());
        }
        self.carry_out(claim, &granted).await
    }

    /// Answers from the ledger, once it is true that the container can be started with the answer. What was begun and not
    /// finished, or is no longer so, is undone, to be done anew.
    async fn prepared_before(&self, claim: &ClaimRef) -> Result<Option<Vec<Answer>>, OperationError> {
        let (known, mended) = self.in_ledger(|ledger| {
            let Some(stored) = ledger.ledger().get(&claim.uid) else { return Ok((None, false)) };
            let record = stored.record();
            if !record.is_whole() || record.work().next().is_some() {
                return Ok((Some(Before::Worked(Arc::clone(record))), false));
            }
            self.check(record)?;
            let answers = answers(record);
            Ok((Some(Before::Ready(answers)), self.renew(ledger, &claim.uid)? == Some(true)))
        })?;
        self.tell_if(mended, claim);
        match known {
            None => Ok(None),
            Some(Before::Ready(devices)) => Ok(Some(devices)),
            Some(Before::Worked(record)) => Box::pin(self.worked_before(claim, &record)).await,
        }
    }

    /// The same for a claim for which something was done to the hardware, or was begun.
    async fn worked_before(&self, claim: &ClaimRef, record: &Record) -> Result<Option<Vec<Answer>>, OperationError> {
        // Where that cannot be known, nothing is undone: containers may use it.
        if record.is_whole() && self.works.hold(record).await? {
            self.check(record)?;
            if let Some(mended) = self.in_ledger(|ledger| self.renew(ledger, &claim.uid))? {
                self.tell_if(mended, claim);
                return Ok(Some(answers(record)));
            }
        }
        warn!(%claim, uid = %claim.uid, "what was done for it is not whole any more; doing it anew");
        self.forget(&claim.uid).await?;
        Ok(None)
    }

    fn check(&self, record: &Record) -> Result<(), Refusal> {
        let inventory = self.observed.borrow();
        record.devices.iter().try_for_each(|device| inventory.as_ref().unwrap_or(&NOTHING).check(device))
    }

    /// Does again what is missing or damaged of a claim that the kubelet asks for again, and says whether there was anything
    /// to do; `None` if it is not prepared any more: while its work was looked at, another agent may have begun to undo it.
    fn renew(&self, ledger: &mut Transaction<'_>, uid: &ClaimUid) -> Result<Option<bool>, OperationError> {
        if !ledger.ledger().get(uid).is_some_and(|stored| stored.record().is_whole()) {
            return Ok(None);
        }
        ledger.trust(uid).map_err(DiskError::from)?;
        self.mend_in(ledger, uid).map(Some)
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
    async fn carry_out(&self, claim: &ClaimRef, granted: &Granted) -> Result<Vec<Answer>, OperationError> {
        let mut loans_known = self.loans_known.clone();
        // What comes of it is looked at where the device is taken.
        let _ = tokio::time::timeout(LOANS, loans_known.wait_for(|known| *known)).await;
        let done = match self.reserve(claim, granted)? {
            record if record.is_whole() => self.describe(&record),
            record => match self.works.carry_out(Record::clone(&record)).await {
                Ok(done) => match self.complete(done.clone(), granted) {
                    Ok(record) => self.describe(&record),
                    Err(cause) => {
                        self.keep_half_done(&record, Record { ending: true, ..done })?;
                        Err(cause)
                    }
                },
                Err((error, half_done)) => {
                    self.keep_half_done(&record, half_done)?;
                    Err(error.into())
                }
            },
        };
        match done {
            Ok(devices) => Ok(devices),
            Err(cause) => {
                if let Err(error) = self.forget(&claim.uid).await {
                    warn!(%claim, uid = %claim.uid, %error, "not undone; the claim keeps it until the kubelet calls again");
                }
                Err(cause)
            }
        }
    }

    /// Plans, and keeps the plan in the ledger at once, so that no other claim can plan with the same device.
    fn reserve(&self, claim: &ClaimRef, granted: &Granted) -> Result<Arc<Record>, OperationError> {
        if !*self.loans_known.borrow() {
            return Err(OperationError::LoansUnknown);
        }
        self.in_ledger(|ledger| {
            // Borrowed after the ledger: reading what another agent undid has changed it. The other way round, two calls
            // and a look at the hardware could wait for each other, too.
            let observed = self.observed.borrow();
            let inventory = observed.as_ref().unwrap_or(&NOTHING);
            let edits = |part: Part<'_>| edits(part, &self.host);
            let record = plan(&self.identity, claim, granted, inventory, ledger.ledger(), edits)?;
            keep(ledger, record)
        })
    }

    /// Keeps what is known of work that is about to be undone, since some of it failed or the rest of the claim did: what is
    /// undone is just that.
    fn keep_half_done(&self, planned: &Record, half_done: Record) -> Result<(), OperationError> {
        if half_done.devices == planned.devices {
            return Ok(());
        }
        self.in_ledger(|ledger| keep(ledger, half_done)).map(|_| ())
    }

    /// Keeps what came of the work.
    fn complete(&self, record: Record, granted: &Granted) -> Result<Arc<Record>, OperationError> {
        self.in_ledger(|ledger| {
            let observed = self.observed.borrow();
            let inventory = observed.as_ref().unwrap_or(&NOTHING);
            let edits = |part: Part<'_>| edits(part, &self.host);
            let record = complete(&self.identity, record, granted, inventory, ledger.ledger(), edits)?;
            keep(ledger, record)
        })
    }

    fn describe(&self, record: &Record) -> Result<Vec<Answer>, OperationError> {
        execute(&self.disk, &record.steps(&self.identity)?).map_err(|failed| failed.cause)?;
        Ok(answers(record))
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
            let _busy = self.busy.hold(claim.uid.clone()).await;
            self.forget(&claim.uid).await
        };
        self.metrics.operation(Operation::Unprepare, result.is_ok(), started.elapsed());
        match &result {
            Ok(()) => {
                let claim = claim.clone();
                after_the_answer(move || info!(%claim, uid = %claim.uid, "unprepared"));
            }
            Err(error) => warn!(%claim, uid = %claim.uid, %error, "not unprepared"),
        }
        result
    }

    /// It is in doubt whether anybody needs what was prepared for a claim.
    pub(crate) fn doubt(&self, claim: &ClaimRef) -> Result<(), OperationError> {
        self.in_ledger(|ledger| Ok(ledger.doubt(&claim.uid).map_err(DiskError::from)?))
    }

    /// Undoes what was prepared for a claim that nobody needs. Where the kubelet has asked for it since that was in doubt, it
    /// is in doubt anew. Says whether it was undone.
    pub(crate) async fn undo_orphan(&self, claim: &ClaimRef) -> Result<bool, OperationError> {
        let _busy = self.busy.hold(claim.uid.clone()).await;
        let withdrawn = self.in_ledger(|ledger| {
            if ledger.is_doubted(&claim.uid) {
                return self.withdraw(ledger, &claim.uid).map(Some);
            }
            ledger.doubt(&claim.uid).map_err(DiskError::from)?;
            Ok(None)
        })?;
        match withdrawn {
            Some(record) => self.undo(&claim.uid, record).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// What cannot be removed now keeps its record, and the kubelet calls again.
    async fn forget(&self, uid: &ClaimUid) -> Result<(), OperationError> {
        // The spec first: no container is to be started any more with what is taken from under it.
        let withdrawn = self.in_ledger(|ledger| self.withdraw(ledger, uid))?;
        self.undo(uid, withdrawn).await
    }

    /// Undoes what was done to the hardware by a record that was withdrawn.
    async fn undo(&self, uid: &ClaimUid, withdrawn: Option<Arc<Record>>) -> Result<(), OperationError> {
        if let Some(record) = withdrawn {
            self.works.undo(&record).await?;
            self.in_ledger(|ledger| Ok(ledger.remove(uid).map_err(DiskError::from)?))?;
        }
        Ok(())
    }

    /// Removes the spec, and the record with it if nothing was done to the hardware; else says what was, and marks it.
    /// While nobody else changes the ledger: another agent that still sees the record as whole would write the spec again.
    fn withdraw(&self, ledger: &mut Transaction<'_>, uid: &ClaimUid) -> Result<Option<Arc<Record>>, OperationError> {
        self.disk.remove_spec(&self.identity.cdi_file(uid)?)?;
        let worked = ledger.ledger().get(uid).map(StoredRecord::record).filter(|record| record.work().next().is_some());
        match worked.cloned() {
            Some(record) if record.ending => Ok(Some(record)),
            Some(record) => keep(ledger, Record { ending: true, ..Record::clone(&record) }).map(Some),
            None => {
                ledger.remove(uid).map_err(DiskError::from)?;
                Ok(None)
            }
        }
    }
}

/// Says something once the answer is on its way: nobody is to wait for a line of the log.
fn after_the_answer(say: impl FnOnce() + Send + 'static) {
    tokio::spawn(async {
        // Whatever can go on now goes first.
        tokio::task::yield_now().await;
        say();
    });
}

/// Whether a call found all done.
struct Repeated(bool);

fn answers(record: &Record) -> Vec<Answer> {
    record.devices.iter().map(PreparedDevice::answer).collect()
}

/// What a container needs of a part.
pub(crate) fn edits(part: Part<'_>, host: &Host) -> Result<cdi::ContainerEdits, String> {
    match part {
        Part::Whole(accelerator) => accelerator.container_edits(host).map_err(|error| error.to_string()),
        Part::Member(accelerator) => accelerator.member_edits(host).map_err(|error| error.to_string()),
        Part::Partition(accelerator, shape, made) => {
            accelerator.partition_edits(shape, made, host).map_err(|error| error.to_string())
        }
        Part::Passthrough(accelerator, ways, config) => {
            let first = match config.iommu.backend_policy {
                IommuBackendPolicy::PreferIommuFd => ways.iommufd().or_else(|| ways.legacy()),
                IommuBackendPolicy::LegacyOnly => ways.legacy(),
            };
            let interface = first.ok_or("VFIO offers no way to it; load vfio-pci, or let the config prefer iommufd")?;
            Ok(accelerator.passthrough_edits(&interface, config.iommu.enable_api_device, host))
        }
    }
}

/// What is known of a claim that is prepared again.
enum Before {
    /// All that it needs is in files.
    Ready(Vec<Answer>),
    /// Something was done to the hardware, or begun.
    Worked(Arc<Record>),
}

fn keep(ledger: &mut Transaction<'_>, record: Record) -> Result<Arc<Record>, OperationError> {
    let stored = StoredRecord::encode(record).map_err(|_| OperationError::Internal)?;
    let record = Arc::clone(stored.record());
    ledger.insert(stored).map_err(DiskError::from)?;
    Ok(record)
}
