use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cdi::{FileName, Kind};
use tessera_core::{Inventory, Ledger, Loan, Loans, State, Unit, Use};
use tessera_device_plugin::{
    Answer, Asked, Basis, Config, Description, DeviceId, Held, Lending, NotAllocated, Offer, Resource, ResourceName,
    allocate, answer, offer, preferred, spec,
};
use tessera_driver::{Accelerator, Host};
use tessera_vocabulary::{DriverName, ExtendedResources};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Configured;
use crate::claims::edits;
use crate::cli::Apis;
use crate::files::FileError;
use crate::hardware::{NOTHING, Observed};
use crate::ledger::{SharedLedger, Transaction};

/// Files of the vendor's driver may change and nothing tells of it: what containers need is looked at so often.
const LOOK: Duration = Duration::from_secs(2);

/// Where those are served who ask for devices by count: what is offered, and who got what.
pub(crate) struct Desk {
    parts: Parts,
    kind: Kind,
    file: FileName,
    lending: Mutex<Lending>,
    described: Mutex<Described>,
    unserved: watch::Sender<BTreeSet<String>>,
    offered: watch::Sender<Telling>,
    loans_known: watch::Sender<bool>,
}

/// What a desk is made of.
pub(crate) struct Parts {
    pub(crate) driver: DriverName,
    pub(crate) family: ExtendedResources,
    pub(crate) apis: Apis,
    pub(crate) config: Configured,
    pub(crate) host: Host,
    pub(crate) observed: Observed,
    pub(crate) ledger: Arc<SharedLedger>,
    pub(crate) specs: cdi::Directory,
    /// Whether it is known what devices are to be offered as.
    pub(crate) layouts_known: watch::Receiver<bool>,
}

/// What the container runtime was told.
#[derive(Default)]
enum Described {
    /// Nothing yet.
    #[default]
    Nothing,
    /// This, and it is on disk.
    Written(Description),
    /// It could not be, and this is why.
    Failed(String),
}

/// What the kubelet is told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Telling {
    /// What is offered.
    pub(crate) offer: Offer,
    /// How often it was to be told again, though it was the same.
    pub(crate) repeats: u64,
}

/// Why a container is given nothing. The texts land in events of pods.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeskError {
    #[error(transparent)]
    Refused(#[from] NotAllocated),
    #[error("{0}: none of it is offered on this node any more; delete the pod so that it is made anew")]
    NoSuchResource(ResourceName),
    #[error("{resource}: the container runtime cannot be told of the devices: {cause}")]
    Undescribed { resource: ResourceName, cause: String },
    #[error("{resource}: the ledger cannot be read or written: {cause}")]
    Ledger { resource: ResourceName, cause: FileError },
}

impl Desk {
    /// Before anything is offered.
    ///
    /// # Errors
    /// When CDI takes no kind that is made of the driver's name.
    pub(crate) fn new(parts: Parts) -> Result<Self, cdi::InvalidName> {
        let kind = Kind::new(&format!("tessera.{}", parts.driver), "device")?;
        let file = FileName::transient(&kind, "units")?;
        let (lending, described) = (Mutex::default(), Mutex::default());
        let (unserved, offered, loans_known) = Default::default();
        Ok(Self { parts, kind, file, lending, described, unserved, offered, loans_known })
    }

    /// What is offered, now and from now on.
    pub(crate) fn offered(&self) -> watch::Receiver<Telling> {
        self.offered.subscribe()
    }

    /// Tells the kubelet the same again: it then writes down what pods have.
    pub(super) fn repeat(&self) {
        self.offered.send_modify(|telling| telling.repeats += 1);
    }

    /// Whether it is known what pods have: before, no claim may be given anything.
    pub(crate) fn loans_known(&self) -> watch::Receiver<bool> {
        self.loans_known.subscribe()
    }

    /// Keeps the offer, and what the container runtime is told, true to the hardware and the ledger, until stopped.
    pub(super) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let (mut observed, mut changed) = (self.parts.observed.clone(), self.parts.ledger.changed());
        let (mut configured, mut unserved) = (self.parts.config.clone(), self.unserved.subscribe());
        let mut layouts_known = self.parts.layouts_known.clone();
        let mut problems = Vec::new();
        loop {
            if let Some(now_wrong) = self.refresh().filter(|now| *now != problems) {
                now_wrong.iter().for_each(|problem| warn!(driver = %self.parts.driver, problem, "not offered"));
                problems = now_wrong;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                seen = observed.changed() => if seen.is_err() { return },
                // Whoever changed it is answered first: there is one thread.
                Ok(()) = changed.changed() => tokio::task::yield_now().await,
                Ok(()) = configured.changed() => {}
                Ok(()) = unserved.changed() => {}
                Ok(()) = layouts_known.changed() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Says what is wrong with the offer; `None` before the first look at the hardware.
    fn refresh(&self) -> Option<Vec<String>> {
        if self.is_idle() {
            return Some(Vec::new());
        }
        let recognized = self.parts.ledger.exclusively(|ledger| {
            // Borrowed after the ledger, as everywhere. What appears may be what pods have.
            let inventory = self.parts.observed.borrow().clone()?;
            // What cannot be written is tried again with each answer of the kubelet, and told then.
            let _ = self.lend(ledger, &inventory, |lending, loans, uses| lending.recognize(loans, uses));
            Some((inventory, ledger.ledger().clone()))
        });
        let known = || Some((self.parts.observed.borrow().clone()?, self.parts.ledger.snapshot()));
        let (inventory, ledger) = recognized.unwrap_or_else(|_| known())?;
        // Where nothing is offered and nothing is lent, no container needs it.
        let by_count = || inventory.devices().iter().any(|device| self.is_by_count(&device.accelerator));
        let mut units = inventory.units(&ledger);
        if !ledger.loans().units.is_empty() || by_count() {
            self.describe(&units);
        }
        let offer = self.offer(&mut units, &ledger);
        let problems = offer.problems.clone();
        self.offered.send_if_modified(|telling| {
            let changed = telling.offer != offer;
            telling.offer = offer;
            changed
        });
        Some(problems)
    }

    /// Whether nothing is offered, nothing is to be and nobody has anything: then no claim and no look changes that.
    fn is_idle(&self) -> bool {
        // Looked at before the hardware is, as everywhere.
        let nobody_has_any = !self.parts.ledger.has_loans() && self.lending().is_idle();
        let observed = self.parts.observed.borrow();
        let nothing =
            |inventory: &Inventory| !inventory.devices().iter().any(|device| self.is_by_count(&device.accelerator));
        observed.as_ref().is_some_and(nothing) && nobody_has_any && self.offered.borrow().offer == Offer::default()
    }

    /// What can be offered of what the container runtime knows: units of which it does not cannot be used, and say so then.
    fn offer(&self, units: &mut Vec<Unit<'_>>, ledger: &Ledger) -> Offer {
        match &*self.described() {
            Described::Nothing => units.clear(),
            Described::Failed(cause) => {
                units.iter_mut().for_each(|unit| unit.state = State::Unusable { cause: cause.clone() });
            }
            Described::Written(description) => {
                for unit in units.iter_mut() {
                    let missing = description.missing.iter().find(|(id, _)| *id == unit.id);
                    if let Some((_, cause)) = missing.filter(|_| unit.state == State::Ready) {
                        unit.state = State::Unusable { cause: cause.clone() };
                    }
                }
            }
        }
        // Before it is known what an admin wants, nothing is offered that might not be meant.
        let is_known = self.parts.config.borrow().is_some() && *self.parts.layouts_known.borrow();
        let by_count = |accelerator: &Accelerator| is_known && self.is_by_count(accelerator);
        let basis = Basis {
            units,
            loans: ledger.loans(),
            unserved: &self.unserved.borrow(),
            family: self.parts.family,
            by_count: &by_count,
        };
        offer(&basis, &self.config())
    }

    /// What an admin wants; where that is not known, what is offered where nothing is said.
    fn config(&self) -> Arc<Config> {
        self.parts.config.borrow().clone().unwrap_or_default()
    }

    fn is_by_count(&self, accelerator: &Accelerator) -> bool {
        self.parts.apis.of(accelerator).device_plugin()
    }

    /// Tells the container runtime what containers of these need, if that is not what it was told last. A description with
    /// nothing in it leaves the last one: containers that were given some of it may start again.
    fn describe(&self, units: &[Unit<'_>]) {
        self.parts.host.look_ahead();
        // Not while an Allocate may wait for it.
        let next = match spec(&self.kind, units, |part| edits(part, &self.parts.host)) {
            Ok(Some(description)) => match self.tell_runtime(&description) {
                Ok(()) => Described::Written(description),
                Err(error) => Described::Failed(error.to_string()),
            },
            Ok(None) => {
                let cause = |unit: &Unit<'_>| edits(unit.part(), &self.parts.host).err();
                units.iter().find_map(cause).map_or(Described::Nothing, Described::Failed)
            }
            Err(error) => Described::Failed(error.to_string()),
        };
        *self.described() = next;
    }

    /// Writes the spec, unless it is there as it should be, or nobody was ever told to look into it.
    fn tell_runtime(&self, description: &Description) -> Result<(), cdi::Error> {
        let path = || self.parts.specs.path().join(self.file.as_str());
        let is_read = self.config().delivery.by_cdi() || path().exists();
        if !is_read || self.parts.specs.holds(&self.file, &description.document) {
            return Ok(());
        }
        self.parts.specs.write_document(&self.file, &description.document)
    }

    /// Gives a container what the kubelet has chosen for it, unless a claim has it. From then on no claim gets it.
    ///
    /// # Errors
    /// See [`DeskError`]. A container gets all or nothing.
    pub(crate) fn grant(&self, resource: &ResourceName, ids: &[DeviceId]) -> Result<Answer, DeskError> {
        let failed = |cause| DeskError::Ledger { resource: resource.clone(), cause };
        let granted = self.parts.ledger.exclusively(|ledger| {
            // Borrowed after the ledger, as everywhere.
            let observed = self.parts.observed.borrow();
            let inventory = observed.as_ref().unwrap_or(&NOTHING);
            let mut units = inventory.units(ledger.ledger());
            let mut offer = self.offer(&mut units, ledger.ledger());
            let of_resource =
                offer.resources.remove(resource).ok_or_else(|| DeskError::NoSuchResource(resource.clone()))?;
            let allocated = allocate(resource, &of_resource, ids)?;
            let wanted: BTreeMap<_, _> =
                allocated.iter().map(|device| (device.id.unit(), device.id.is_replica())).collect();
            units.retain(|unit| wanted.contains_key(unit.id.as_str()));
            let answer = self.answer(resource, &units)?;
            let mut loans = ledger.ledger().loans().clone();
            for unit in &units {
                let shared = wanted.get(unit.id.as_str()).copied().unwrap_or_default();
                loans.grant(unit.id.clone(), Loan::new(resource.to_string(), shared, unit.uses.clone()));
            }
            // Before the answer: whoever is asked next, be it another agent, knows of it.
            ledger.lend(loans).map_err(failed)?;
            Ok(answer)
        });
        let granted = granted.unwrap_or_else(|cause| Err(failed(cause)));
        match &granted {
            Ok(_) => info!(%resource, devices = ids.len(), "allocated"),
            Err(error) => warn!(%resource, %error, "not allocated"),
        }
        granted
    }

    /// What a container of these is told, once the runtime can look it up.
    fn answer(&self, resource: &ResourceName, units: &[Unit<'_>]) -> Result<Answer, DeskError> {
        let failed = |cause: String| DeskError::Undescribed { resource: resource.clone(), cause };
        let described = self.described();
        let Described::Written(description) = &*described else { return Err(failed("nothing is written yet".into())) };
        self.tell_runtime(description).map_err(|error| failed(error.to_string()))?;
        if let Some(unit) = units.iter().find(|unit| !description.units.contains_key(&unit.id)) {
            return Err(failed(format!("{} was just found", unit.id)));
        }
        Ok(answer(&self.config().delivery, resource, units, description))
    }

    /// Which of the available devices a container should get.
    pub(super) fn preferred(
        &self,
        resource: &ResourceName,
        available: &[DeviceId],
        must: &[DeviceId],
        size: usize,
    ) -> Vec<DeviceId> {
        let offered = self.offered.borrow();
        let observed = self.parts.observed.borrow();
        let inventory = observed.as_ref().unwrap_or(&NOTHING);
        let devices: Option<&Resource> = offered.offer.resources.get(resource);
        let policy = self.config().allocation_policy;
        devices.map(|devices| preferred(devices, inventory, policy, available, must, size)).unwrap_or_default()
    }

    /// What pods have.
    pub(super) fn loans(&self) -> Loans {
        self.parts.ledger.loans()
    }

    /// The kubelet has told what pods have. Before the first look at the hardware that says nothing: what it is that they
    /// have is not known then.
    ///
    /// # Errors
    /// When the ledger cannot be used, or not written: then it is known here, and to no other agent.
    pub(super) fn hear(&self, asked: Asked, held: Held) -> Result<(), FileError> {
        let written = self.parts.ledger.exclusively(|ledger| {
            let observed = self.parts.observed.borrow();
            let inventory = observed.as_ref()?;
            Some(self.lend(ledger, inventory, |lending, loans, uses| lending.hear(loans, asked, held, uses)))
        })?;
        let Some(written) = written else { return Ok(()) };
        if !self.loans_known.send_replace(true) {
            let units = self.loans().units.len();
            info!(driver = %self.parts.driver, units, "it is known what pods have without a claim");
        }
        written
    }

    /// Of these resources pods have devices, and no device plugin has healthy ones.
    pub(super) fn nobody_serves(&self, resources: BTreeSet<String>) {
        self.unserved.send_if_modified(|known| {
            let changed = *known != resources;
            *known = resources;
            changed
        });
    }

    /// Changes what is lent as the kubelet has told. What is done is told what of the hardware a unit takes.
    fn lend(
        &self,
        ledger: &mut Transaction<'_>,
        inventory: &Inventory,
        change: impl FnOnce(&mut Lending, &mut Loans, &dyn Fn(&str) -> Option<Vec<Use>>),
    ) -> Result<(), FileError> {
        let mut loans = ledger.ledger().loans().clone();
        let units = inventory.units(ledger.ledger());
        let uses = |id: &str| units.iter().find(|unit| unit.id == id).map(|unit| unit.uses.clone());
        change(&mut self.lending(), &mut loans, &uses);
        ledger.lend_as_told(loans)
    }

    fn lending(&self) -> MutexGuard<'_, Lending> {
        self.lending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn described(&self) -> MutexGuard<'_, Described> {
        self.described.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
