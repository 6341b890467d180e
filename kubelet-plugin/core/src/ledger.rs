use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::resource::v1::Device;
use tessera_vocabulary::DeviceName;

use crate::{ClaimRef, ClaimUid, Record, StoredRecord};

/// Which claim has what: the one truth about who holds a device on this node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    records: BTreeMap<ClaimUid, StoredRecord>,
}

impl Ledger {
    /// The record of a claim.
    pub fn get(&self, uid: &ClaimUid) -> Option<&StoredRecord> {
        self.records.get(uid)
    }

    /// Every record, by claim UID.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values().map(StoredRecord::record)
    }

    /// Adds a record, or puts it in the place of the claim's earlier one.
    pub fn insert(&mut self, stored: StoredRecord) {
        self.records.insert(stored.record().claim.uid.clone(), stored);
    }

    /// Takes a claim's record out.
    pub fn remove(&mut self, uid: &ClaimUid) -> Option<StoredRecord> {
        self.records.remove(uid)
    }

    /// The claim other than `uid` that holds a device. Claims with admin access hold nothing.
    pub fn holder(&self, device: &DeviceName, uid: &ClaimUid) -> Option<&ClaimRef> {
        self.records()
            .find(|record| record.claim.uid != *uid && record.holds().any(|held| held == device))
            .map(|record| &record.claim)
    }

    /// How the devices are published that some claim holds, by name.
    pub fn held_as_published(&self) -> BTreeMap<&DeviceName, &Device> {
        let held = self.records().flat_map(|record| &record.devices).filter(|device| !device.admin_access);
        held.filter_map(|device| Some((&device.device, device.published_as.as_ref()?))).collect()
    }

    /// Every device that some claim holds.
    pub fn held(&self) -> BTreeSet<DeviceName> {
        self.records().flat_map(Record::holds).cloned().collect()
    }
}
