//! Where those are served who ask for devices by count: what `kubelet-plugin/src/device_plugin` does in `desk.rs` and
//! `listing.rs`, but for sockets and what the container runtime is told.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use tessera_core::{Loan, Loans, State, Use};
use tessera_device_plugin::{
    Asked, Basis, Config, DeviceId, Held, Lending, Offer, ResourceName, allocate, offer, preferred,
};
use tessera_vocabulary::ExtendedResources;

use super::Agent;
use crate::disk::Trouble;
use crate::hardware::Hardware;
use crate::setting::Plant;

/// What pods have, as an agent knows it.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    /// What an admin wants; `None` where nothing is offered by count.
    config: Option<Config>,
    lending: RefCell<Lending>,
    /// Whether it is known what pods have.
    known: Cell<bool>,
    /// The kubelet was asked.
    asking: Option<Asking>,
    /// When it is to be asked next.
    pub(crate) due: u64,
}

/// A question to the kubelet, what was lent then, and what it said.
#[derive(Debug)]
struct Asking {
    lent: Loans,
    named: Held,
}

impl Desk {
    pub(crate) fn new(config: Option<Config>) -> Self {
        Self { config, ..Self::default() }
    }
}

impl Agent {
    /// Whether it is known what pods have: before, no claim is given anything.
    pub(crate) fn knows_loans(&self) -> bool {
        self.desk.known.get()
    }

    /// What the kubelet is told.
    pub(crate) fn offer(&self, hardware: &Hardware) -> Offer {
        let Some(config) = &self.desk.config else { return Offer::default() };
        let inventory = self.inventory();
        self.with_ledger(|ledger| {
            let mut units = inventory.units(ledger);
            for unit in units.iter_mut().filter(|unit| unit.state == State::Ready) {
                if let Err(cause) = hardware.container_edits(unit.part()) {
                    unit.state = State::Unusable { cause };
                }
            }
            let basis = Basis {
                units: &units,
                loans: ledger.loans(),
                unserved: &BTreeSet::new(),
                family: ExtendedResources::NVIDIA,
                by_count: &|_| true,
            };
            offer(&basis, config)
        })
    }

    /// Which of these a container should get.
    pub(crate) fn preferred(
        &self,
        resource: &ResourceName,
        free: &[DeviceId],
        size: usize,
        hardware: &Hardware,
    ) -> Vec<DeviceId> {
        let offer = self.offer(hardware);
        let policy = self.desk.config.as_ref().map(|config| config.allocation_policy).unwrap_or_default();
        let devices = offer.resources.get(resource);
        devices.map(|devices| preferred(devices, &self.inventory(), policy, free, &[], size)).unwrap_or_default()
    }

    /// Gives a container what the kubelet has chosen for it, unless a claim has it; says what of the hardware each takes.
    pub(crate) fn grant(
        &self,
        resource: &ResourceName,
        ids: &[DeviceId],
        hardware: &Hardware,
    ) -> Option<Vec<(DeviceId, Vec<Use>)>> {
        self.refresh().ok()?;
        let offer = self.offer(hardware);
        let allocated = allocate(resource, offer.resources.get(resource)?, ids).ok()?;
        let inventory = self.inventory();
        let units = self.with_ledger(|ledger| inventory.units(ledger));
        let uses = |id: &DeviceId| units.iter().find(|unit| unit.id == id.unit()).map(|unit| unit.uses.clone());
        let granted: Vec<_> =
            allocated.iter().filter_map(|device| Some((device.id.clone(), uses(&device.id)?))).collect();
        let mut loans = self.loans();
        for (id, uses) in &granted {
            let loan = Loan::new(resource.to_string(), id.is_replica(), uses.clone());
            loans.grant(id.unit().to_owned(), loan);
        }
        self.lend(loans).ok()?;
        Some(granted)
    }

    /// The kubelet is asked what pods have, if they have anything; the answer is heard later.
    pub(crate) fn ask(&mut self, named: impl FnOnce() -> Held) {
        let lent = self.loans();
        let named = if lent.units.is_empty() { Held::default() } else { named() };
        self.desk.asking = Some(Asking { lent, named });
    }

    /// The kubelet has answered, and this is what its checkpoint says now. Says whether it is in doubt that pods still have
    /// all of that; the kubelet is then told its devices again.
    pub(crate) fn hear(&mut self, kept: Held) -> bool {
        let Some(Asking { lent, named }) = self.desk.asking.take() else { return false };
        let in_doubt = lent.units.keys().any(|unit| kept.names(unit) && !named.names(unit));
        if self.refresh().is_ok() && self.observed.borrow().is_some() {
            let asked = Asked::after(&lent);
            self.change_loans(|lending, loans, uses| lending.hear(loans, asked, named.and(kept), uses));
            self.desk.known.set(true);
        }
        in_doubt
    }

    /// What appears may be what pods have.
    pub(super) fn recognize(&self) {
        self.change_loans(|lending, loans, uses| lending.recognize(loans, uses));
    }

    /// Changes what is lent as the kubelet has told: where it cannot be written, it is known all the same.
    fn change_loans(&self, change: impl FnOnce(&mut Lending, &mut Loans, &dyn Fn(&str) -> Option<Vec<Use>>)) {
        let mut loans = self.loans();
        let inventory = self.inventory();
        let units = self.with_ledger(|ledger| inventory.units(ledger));
        let uses = |id: &str| units.iter().find(|unit| unit.id == id).map(|unit| unit.uses.clone());
        change(&mut self.desk.lending.borrow_mut(), &mut loans, &uses);
        if self.lend(loans.clone()).is_err() {
            let mut known = self.known.borrow_mut();
            known.loans_unwritten = true;
            known.ledger.lend(loans);
        }
    }

    fn loans(&self) -> Loans {
        self.with_ledger(|ledger| ledger.loans().clone())
    }

    /// Keeps on disk what pods have: from then on another agent knows it too.
    fn lend(&self, loans: Loans) -> Result<(), Trouble> {
        let is_new = || loans != *self.known.borrow().ledger.loans() || self.known.borrow().loans_unwritten;
        if self.plant == Some(Plant::LoanLost) || !is_new() {
            return Ok(());
        }
        if self.plant != Some(Plant::LoanUntold) {
            self.announce()?;
            self.on_disk(|files| files.write_loans(&loans, &self.identity.boot_id))?;
        }
        let mut known = self.known.borrow_mut();
        known.loans_unwritten = false;
        known.ledger.lend(loans);
        Ok(())
    }
}
