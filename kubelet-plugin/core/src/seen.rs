use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::{Device, DeviceTaint, ResourceSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use sha2::{Digest, Sha256};

use crate::parse_quantity;

/// A slice as the API server has it: whose it is, which version, and a digest of what it says.
///
/// Of what it says no more is ever needed than whether something else is to be said; as an object it takes some twelve KiB a
/// device.
#[derive(Clone, Debug)]
pub struct Seen {
    metadata: ObjectMeta,
    generation: i64,
    said: Option<Said>,
    /// When the taints came.
    times: Vec<(String, DeviceTaint)>,
}

/// What a slice says: the generation, the server's metadata and the times of taints say nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said([u8; 32]);

impl From<ResourceSlice> for Seen {
    fn from(mut slice: ResourceSlice) -> Self {
        let said = Said::by(&mut slice);
        let ResourceSlice { metadata: ObjectMeta { name, uid, resource_version, owner_references, .. }, spec } = slice;
        let of = |device: Device| {
            let name = device.name;
            let taints = device.taints.into_iter().flatten().filter(|taint| taint.time_added.is_some());
            taints.map(move |taint| (name.clone(), taint))
        };
        Self {
            metadata: ObjectMeta { name, uid, resource_version, owner_references, ..ObjectMeta::default() },
            generation: spec.pool.generation,
            said,
            times: spec.devices.into_iter().flatten().flat_map(of).collect(),
        }
    }
}

impl Seen {
    /// Its name.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Which of the objects that ever had this name it is.
    pub fn uid(&self) -> Option<&str> {
        self.metadata.uid.as_deref()
    }

    /// The generation of its pool.
    pub fn generation(&self) -> i64 {
        self.generation
    }

    /// Name, UID, version and owners; nothing else is kept.
    pub fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    /// Whether it says this and has these owners.
    pub(crate) fn says(&self, said: Option<&Said>, owners: Option<&Vec<OwnerReference>>) -> bool {
        said.is_some() && self.said.as_ref() == said && self.metadata.owner_references.as_ref() == owners
    }

    /// When a taint came that a device has already.
    pub(crate) fn time(&self, device: &str, taint: &DeviceTaint) -> Option<&Time> {
        let same = |other: &DeviceTaint| {
            (&other.key, &other.value, &other.effect) == (&taint.key, &taint.value, &taint.effect)
        };
        let known = self.times.iter().find(|(name, known)| name == device && same(known));
        known.and_then(|(_, known)| known.time_added.as_ref())
    }
}

impl Said {
    /// What a slice says, which is left as it was. `None` where it cannot be expressed in JSON: then it equals nothing.
    ///
    /// No more than one device is copied at a time.
    pub(crate) fn by(slice: &mut ResourceSlice) -> Option<Self> {
        let (devices, generation) = (slice.spec.devices.take(), std::mem::take(&mut slice.spec.pool.generation));
        let rest = serde_json::to_vec(&slice.spec);
        let parts = devices.iter().flatten().map(|device| {
            let mut device = device.clone();
            normalise(&mut device);
            serde_json::to_vec(&device)
        });
        let digest = std::iter::once(rest)
            .chain(parts)
            .try_fold(Sha256::new(), |digest, part| part.map(|part| digest.chain_update(part)));
        (slice.spec.devices, slice.spec.pool.generation) = (devices, generation);
        digest.ok().map(|digest| Self(digest.finalize().into()))
    }
}

/// The API server stores an empty list or map as absent, and a quantity in one of its many spellings.
fn normalise(device: &mut Device) {
    device.attributes.take_if(|attributes| attributes.is_empty());
    device.capacity.take_if(|capacity| capacity.is_empty());
    device.taints.take_if(|taints| taints.is_empty());
    for taint in device.taints.iter_mut().flatten() {
        taint.time_added = None;
    }
    for capacity in device.capacity.iter_mut().flat_map(BTreeMap::values_mut) {
        if let Some(value) = parse_quantity(&capacity.value) {
            capacity.value.0 = value.to_string();
        }
    }
}
