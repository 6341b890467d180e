//! The slices of domains: what is stored, what should be, and the writes that lead from one to the other.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::api::resource::v1::{Device, DeviceTaint, ResourcePool, ResourceSlice, ResourceSliceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tessera_vocabulary::{DriverName, domain_label, domain_pool};

use super::{DomainId, DomainWrite};
use crate::Revision;

/// By this label people find what the controller keeps: whoever removes it for good removes these slices too.
const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "tessera-controller");

const NAMES_BEGIN: &str = "domains-";

/// The name of a domain's slice. It is fixed, so that every controller means the same object.
pub(super) fn name(domain: &DomainId) -> String {
    format!("{NAMES_BEGIN}{}-{}", domain.driver, domain.device())
}

/// The one slice of a domain's pool. Its nodes are those with its label; the generation of the pool is set when it is written.
pub(super) fn slice(domain: &DomainId, device: Device) -> ResourceSlice {
    let pool = ResourcePool {
        name: domain_pool(&domain.driver, &domain.device()),
        generation: 0,
        // One slice is written at once: nobody ever sees a part of the pool.
        resource_slice_count: 1,
    };
    let requirement = NodeSelectorRequirement {
        key: domain_label(&domain.driver),
        operator: "In".to_owned(),
        values: Some(vec![domain.device().to_string()]),
    };
    let term = NodeSelectorTerm { match_expressions: Some(vec![requirement]), match_fields: None };
    ResourceSlice {
        metadata: ObjectMeta {
            name: Some(name(domain)),
            labels: Some([(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: ResourceSliceSpec {
            driver: domain.driver.to_string(),
            node_selector: Some(NodeSelector { node_selector_terms: vec![term] }),
            pool,
            devices: Some(vec![device]),
            ..ResourceSliceSpec::default()
        },
    }
}

/// All slices of domains.
#[derive(Debug, Default)]
pub(super) struct Slices {
    wanted: BTreeMap<String, ResourceSlice>,
    stored: BTreeMap<String, ResourceSlice>,
    /// How far the watch has come.
    seen: Revision,
    /// Those that may have to be written.
    open: BTreeSet<String>,
}

impl Slices {
    /// What is to be stored under a name.
    pub(super) fn want(&mut self, name: String, slice: Option<ResourceSlice>) {
        if self.wanted.get(&name) != slice.as_ref() {
            match slice {
                Some(slice) => drop(self.wanted.insert(name.clone(), slice)),
                None => drop(self.wanted.remove(&name)),
            }
            self.open.insert(name);
        }
    }

    /// The watch tells that a slice is there, or was changed.
    pub(super) fn seen(&mut self, slice: ResourceSlice) {
        self.seen = self.seen.max(revision(&slice.metadata));
        if let Some(name) = self.store(slice) {
            self.open.insert(name);
        }
    }

    /// A write was answered with this. Says whether it has all taints that it was to have.
    ///
    /// What else the server has made of it is let be until something changes: two that are sure would write for ever.
    pub(super) fn written(&mut self, slice: ResourceSlice) -> bool {
        let taints = |slice: &ResourceSlice| -> usize {
            slice.spec.devices.iter().flatten().map(|device| device.taints.as_ref().map_or(0, Vec::len)).sum()
        };
        let name = slice.metadata.name.clone().unwrap_or_default();
        let keeps = self.wanted.get(&name).is_none_or(|wanted| taints(&slice) >= taints(wanted));
        if revision(&slice.metadata) > self.seen || self.stored.contains_key(&name) {
            self.store(slice);
        }
        self.open.remove(&name);
        keeps
    }

    /// Watches and answers overtake each other; what is older than what is known is let pass.
    fn store(&mut self, slice: ResourceSlice) -> Option<String> {
        let name = slice.metadata.name.clone()?;
        let known = self.stored.get(&name);
        if known.is_some_and(|known| revision(&known.metadata) >= revision(&slice.metadata)) {
            return None;
        }
        // Under the name of a domain's slice there may be another one: that is to be known before it is in the way.
        if is_of_domain(&slice) || name.starts_with(NAMES_BEGIN) {
            self.stored.insert(name.clone(), slice);
        }
        Some(name)
    }

    /// A slice is gone, as the watch or the answer to a deletion tells.
    pub(super) fn gone(&mut self, metadata: &ObjectMeta) {
        self.seen = self.seen.max(revision(metadata));
        let Some(name) = &metadata.name else { return };
        if self.stored.get(name).is_some_and(|known| known.metadata.uid == metadata.uid) {
            self.stored.remove(name);
            self.open.insert(name.clone());
        }
    }

    /// The watch over a driver's slices has listed these, and no others but what was written since are there.
    pub(super) fn are(&mut self, driver: &DriverName, names: &BTreeSet<String>) {
        let seen = self.seen;
        let gone = |(name, slice): (&String, &ResourceSlice)| {
            let is_gone = slice.spec.driver == driver.as_str() && !names.contains(name);
            (is_gone && revision(&slice.metadata) <= seen).then(|| name.clone())
        };
        let gone: Vec<_> = self.stored.iter().filter_map(gone).collect();
        for name in gone {
            self.stored.remove(&name);
            self.open.insert(name);
        }
    }

    /// What is to be written. Each is decided again until it is known to be done.
    pub(super) fn writes(&mut self) -> Vec<DomainWrite> {
        let mut writes = Vec::new();
        for name in std::mem::take(&mut self.open) {
            if let Some(write) = self.write(&name) {
                writes.push(write);
                self.open.insert(name);
            }
        }
        writes
    }

    fn write(&self, name: &str) -> Option<DomainWrite> {
        match (self.wanted.get(name), self.stored.get(name)) {
            (None, None) => None,
            (None, Some(stored)) => is_of_domain(stored).then(|| delete(stored)),
            (Some(wanted), None) => {
                let mut slice = wanted.clone();
                slice.spec.pool.generation = 1;
                Some(DomainWrite::Create(Box::new(slice)))
            }
            (Some(wanted), Some(stored)) if !is_same_pool(wanted, stored) => {
                // What these say can never be changed. It is made anew once this one is gone.
                Some(delete(stored))
            }
            (Some(wanted), Some(stored)) => {
                (!says(stored, wanted)).then(|| DomainWrite::Update(Box::new(update(stored, wanted))))
            }
        }
    }
}

fn revision(metadata: &ObjectMeta) -> Revision {
    Revision::read(metadata.resource_version.as_deref())
}

/// Whether a slice is of a domain's pool, or was: such pools are the controller's alone.
fn is_of_domain(slice: &ResourceSlice) -> bool {
    slice.spec.node_name.is_none() && slice.spec.pool.name.starts_with("domains/")
}

fn is_same_pool(wanted: &ResourceSlice, stored: &ResourceSlice) -> bool {
    let identity = |slice: &ResourceSlice| {
        let ResourceSliceSpec { driver, pool, node_name, .. } = &slice.spec;
        (driver.clone(), pool.name.clone(), node_name.clone())
    };
    identity(wanted) == identity(stored)
}

/// Whether a stored slice says what is wanted. The generation and the times of taints say nothing.
fn says(stored: &ResourceSlice, wanted: &ResourceSlice) -> bool {
    let mut spec = stored.spec.clone();
    spec.pool.generation = wanted.spec.pool.generation;
    for device in spec.devices.iter_mut().flatten() {
        // The server may answer an empty list as an empty list.
        device.taints.take_if(|taints| taints.is_empty());
        device.taints.iter_mut().flatten().for_each(|taint| taint.time_added = None);
    }
    let labels = |slice: &ResourceSlice| slice.metadata.labels.clone().unwrap_or_default();
    let there = labels(stored);
    spec == wanted.spec && labels(wanted).iter().all(|(key, value)| there.get(key) == Some(value))
}

fn update(stored: &ResourceSlice, wanted: &ResourceSlice) -> ResourceSlice {
    let mut slice = wanted.clone();
    slice.metadata.uid.clone_from(&stored.metadata.uid);
    slice.metadata.resource_version.clone_from(&stored.metadata.resource_version);
    slice.spec.pool.generation = stored.spec.pool.generation.saturating_add(1);
    let before: Vec<_> =
        stored.spec.devices.iter().flatten().flat_map(|device| device.taints.iter().flatten()).collect();
    // A taint that was there keeps the time at which it came.
    for taint in slice.spec.devices.iter_mut().flatten().flat_map(|device| device.taints.iter_mut().flatten()) {
        let same = |other: &&&DeviceTaint| {
            (&other.key, &other.value, &other.effect) == (&taint.key, &taint.value, &taint.effect)
        };
        taint.time_added = before.iter().find(same).and_then(|before| before.time_added.clone());
    }
    slice
}

fn delete(stored: &ResourceSlice) -> DomainWrite {
    let ObjectMeta { name, uid, resource_version, .. } = stored.metadata.clone();
    DomainWrite::Delete {
        name: name.unwrap_or_default(),
        uid: uid.unwrap_or_default(),
        resource_version: resource_version.unwrap_or_default(),
    }
}
