use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::resource::v1::Device;
use serde::{Deserialize, Serialize};
use tessera_vocabulary::DeviceName;

use crate::{ClaimRef, ClaimUid};

/// What was prepared for a claim: all that a repeated call, the undoing and a repair need, without the API server.
///
/// Stored as JSON, one file a claim. Fields are only ever added; what an older or newer agent wrote stays readable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The boot of the node in which it was written: nothing that it describes survives a reboot.
    pub boot_id: String,
    /// Whose it is.
    pub claim: ClaimRef,
    /// What it was given, in the order of the allocation.
    pub devices: Vec<PreparedDevice>,
    /// What the container runtime was told, so that a lost file can be written again.
    pub spec: cdi::Spec,
}

/// One device of a prepared claim, as the kubelet is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreparedDevice {
    /// The requests of the claim that it serves.
    pub requests: Vec<String>,
    /// Its pool.
    pub pool: String,
    /// Its name in the pool.
    pub device: DeviceName,
    /// Which share of a shared device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_id: Option<String>,
    /// For watching only: excludes nobody.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub admin_access: bool,
    /// The names under which the container runtime finds it.
    pub cdi_ids: Vec<String>,
    /// How it is published, so that it stays so even if a later agent never sees it: an allocated device must not
    /// vanish. Agents before this field knew it not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_as: Option<Device>,
}

/// Which claim has what: the one truth about who holds a device on this node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    records: BTreeMap<ClaimUid, Record>,
}

impl Ledger {
    /// The record of a claim.
    pub fn get(&self, uid: &ClaimUid) -> Option<&Record> {
        self.records.get(uid)
    }

    /// Every record, by claim UID.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    /// Adds a record, or puts it in the place of the claim's earlier one.
    pub fn insert(&mut self, record: Record) {
        self.records.insert(record.claim.uid.clone(), record);
    }

    /// Takes a claim's record out.
    pub fn remove(&mut self, uid: &ClaimUid) -> Option<Record> {
        self.records.remove(uid)
    }

    /// The claim other than `uid` that holds a device. Claims with admin access hold nothing.
    pub fn holder(&self, device: &DeviceName, uid: &ClaimUid) -> Option<&ClaimRef> {
        self.records
            .values()
            .find(|record| record.claim.uid != *uid && record.holds().any(|held| held == device))
            .map(|record| &record.claim)
    }

    /// How the devices are published that some claim holds, by name.
    pub fn held_as_published(&self) -> BTreeMap<&DeviceName, &Device> {
        let held = self.records.values().flat_map(|record| &record.devices).filter(|device| !device.admin_access);
        held.filter_map(|device| Some((&device.device, device.published_as.as_ref()?))).collect()
    }

    /// Every device that some claim holds.
    pub fn held(&self) -> BTreeSet<DeviceName> {
        self.records.values().flat_map(Record::holds).cloned().collect()
    }
}

impl Record {
    fn holds(&self) -> impl Iterator<Item = &DeviceName> {
        self.devices.iter().filter(|device| !device.admin_access).map(|device| &device.device)
    }
}
