use std::collections::{BTreeMap, BTreeSet};

use tessera_driver::{Placement, Work};
use tessera_vocabulary::{DeviceName, PciAddress};

use crate::{ClaimRef, ClaimUid, Loan, Loans, PreparedDevice, Published, Record, StoredRecord, Use};

/// Which claim, and which other pod, has what: the one truth about who holds a device on this node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    records: BTreeMap<ClaimUid, StoredRecord>,
    /// What pods have by way of the kubelet's device plugins.
    loans: Loans,
}

impl Ledger {
    /// The record of a claim.
    pub fn get(&self, uid: &ClaimUid) -> Option<&StoredRecord> {
        self.records.get(uid)
    }

    /// Every record, by claim UID.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values().map(|stored| &**stored.record())
    }

    /// Adds a record, or puts it in the place of the claim's earlier one.
    pub fn insert(&mut self, stored: StoredRecord) {
        self.records.insert(stored.record().claim.uid.clone(), stored);
    }

    /// Takes a claim's record out.
    pub fn remove(&mut self, uid: &ClaimUid) -> Option<StoredRecord> {
        self.records.remove(uid)
    }

    /// The claim other than `uid` that has something of what would be used. Claims with admin access hold nothing.
    pub fn holder(&self, wanted: &[Use], uid: &ClaimUid) -> Option<&ClaimRef> {
        let excludes = |held: &PreparedDevice| wanted.iter().any(|one| held.excludes(one));
        self.records()
            .find(|record| record.claim.uid != *uid && record.holds().any(excludes))
            .map(|record| &record.claim)
    }

    /// The claim other than `uid` that keeps it from having a share of what would be used: one that has it for itself, or
    /// where so many have shares as there may be, the first of them. It is not known how many there may be where the
    /// device's layout is not, which is so for a moment after a reboot.
    pub(crate) fn holder_besides_shares(
        &self,
        wanted: &[Use],
        uid: &ClaimUid,
        shares: Option<u32>,
    ) -> Option<&ClaimRef> {
        let excludes = |held: &&PreparedDevice| wanted.iter().any(|one| held.excludes(one));
        let others = self.records().filter(|record| record.claim.uid != *uid);
        let held: Vec<_> =
            others.flat_map(|record| record.holds().filter(excludes).map(|held| (&record.claim, held))).collect();
        let alone = held.iter().find(|(_, held)| held.share_id.is_none());
        let is_full = shares.is_some_and(|shares| held.len() >= usize::try_from(shares).unwrap_or(usize::MAX));
        alone.or(held.first().filter(|_| is_full)).map(|(claim, _)| *claim)
    }

    /// The claim that has something of what would be used.
    pub(crate) fn claimant(&self, wanted: &[Use]) -> Option<&ClaimRef> {
        let excludes = |held: &PreparedDevice| wanted.iter().any(|one| held.excludes(one));
        self.records().find(|record| record.holds().any(excludes)).map(|record| &record.claim)
    }

    /// What pods have without a claim.
    pub fn loans(&self) -> &Loans {
        &self.loans
    }

    /// Says anew what pods have without a claim.
    pub fn lend(&mut self, loans: Loans) {
        self.loans = loans;
    }

    /// The loan that has something of what would be used, but for that of a unit itself: pods may share it.
    pub(crate) fn lent(&self, wanted: &[Use], but: Option<&str>) -> Option<&Loan> {
        let taken = |loan: &Loan| loan.uses.iter().any(|held| wanted.iter().any(|one| held.excludes(one)));
        self.loans.units.iter().find(|(id, loan)| but != Some(id.as_str()) && taken(loan)).map(|(_, loan)| loan)
    }

    /// The devices that some claim holds and how they are published, by name.
    pub fn held_as_published(&self) -> BTreeMap<&DeviceName, (&PreparedDevice, &Published)> {
        let held = self.records().flat_map(Record::holds);
        held.filter_map(|device| Some((&device.device, (device, device.published_as.as_ref()?)))).collect()
    }

    /// Every device that some claim holds.
    pub fn held(&self) -> BTreeSet<DeviceName> {
        self.records().flat_map(Record::holds).map(|device| device.device.clone()).collect()
    }

    /// Every accelerator that some claim or some other pod has, or a part of it.
    pub fn accelerators_in_use(&self) -> BTreeSet<DeviceName> {
        let claimed = self.records().flat_map(Record::holds).flat_map(PreparedDevice::uses);
        let lent = self.loans.units.values().flat_map(|loan| loan.uses.iter().cloned());
        claimed.chain(lent).map(|one| one.accelerator).collect()
    }

    /// What was done to the hardware for claims, or begun, of which another ledger, a later one, says nothing any more.
    pub fn work_that_is_not_in<'a>(&'a self, later: &'a Self) -> impl Iterator<Item = &'a Work> {
        let known = |work: &Work| later.records().flat_map(Record::work).any(|(other, _)| other == work);
        self.records().flat_map(Record::work).map(|(work, _)| work).filter(move |work| !known(work))
    }

    /// The partitions of an accelerator that claims own, by shape and place, also those that are only about to be made.
    pub(crate) fn made_on(&self, accelerator: &DeviceName) -> BTreeSet<(u32, Placement)> {
        let devices = self.records().flat_map(|record| &record.devices);
        let on_it = devices.filter(|device| device.uses.iter().any(|one| one.accelerator == *accelerator));
        on_it
            .flat_map(|device| &device.work)
            .filter_map(|work| match work {
                Work::Cut { shape, placement, .. } => Some((*shape, *placement)),
                Work::Join { .. } | Work::Pass { .. } => None,
            })
            .collect()
    }

    /// Whether a claim hands an accelerator to user space.
    pub(crate) fn passes(&self, address: PciAddress) -> bool {
        let mut work = self.records().flat_map(Record::work).map(|(work, _)| work);
        work.any(|work| matches!(work, Work::Pass { accelerator } if *accelerator == address))
    }
}
