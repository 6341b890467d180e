use std::collections::BTreeMap;

use tessera_kubelet_api::dra_v1;

use crate::Claim;

/// A pod that is bound to the node, as far as claims go.
///
/// ```
/// use testkit::{Claim, kubelet::Pod};
/// let pod = Pod::new("trainer").claim(&Claim::new("training"));
/// assert_eq!(pod.uid, "pod-trainer");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace, and that of its claims; `team` unless changed.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID, made of the name unless changed.
    pub uid: String,
    /// The claims in the order of the spec.
    pub(super) claims: Vec<PodClaim>,
}

/// A claim that a pod names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodClaim {
    pub(super) name: String,
    /// Whether the pod's container names it. It is prepared anyway, but not listed by pod resources.
    pub(super) in_container: bool,
}

impl Pod {
    /// A pod without claims.
    pub fn new(name: &str) -> Self {
        let (namespace, uid) = ("team".to_owned(), format!("pod-{name}"));
        Self { namespace, name: name.to_owned(), uid, claims: Vec::new() }
    }

    /// With another UID: another pod, maybe of the same name.
    #[must_use]
    pub fn uid(mut self, uid: &str) -> Self {
        uid.clone_into(&mut self.uid);
        self
    }

    /// With one more claim, which its container uses.
    #[must_use]
    pub fn claim(mut self, claim: &Claim) -> Self {
        self.claims.push(PodClaim { name: claim.name.clone(), in_container: true });
        self
    }

    /// With several more.
    #[must_use]
    pub fn claims<'a>(self, claims: impl IntoIterator<Item = &'a Claim>) -> Self {
        claims.into_iter().fold(self, Self::claim)
    }

    /// With one more claim that no container uses.
    #[must_use]
    pub fn claim_of_no_container(mut self, claim: &Claim) -> Self {
        self.claims.push(PodClaim { name: claim.name.clone(), in_container: false });
        self
    }
}

/// What a pod's claim got.
#[derive(Clone, Debug, PartialEq)]
pub struct PreparedClaim {
    /// The claim's name.
    pub name: String,
    /// The claim's UID.
    pub uid: String,
    /// The devices by driver; every driver of the allocation is there, also one without devices.
    pub drivers: BTreeMap<String, Vec<dra_v1::Device>>,
}

impl PreparedClaim {
    /// The CDI ids that the runtime is given for a container that uses the whole claim, or only one request of it.
    pub fn cdi_ids(&self, request: Option<&str>) -> Vec<&str> {
        let serves = |device: &&dra_v1::Device| {
            let names = &device.request_names;
            request.is_none_or(|request| names.is_empty() || names.iter().any(|name| name == request))
        };
        let devices = self.drivers.values().flatten().filter(serves);
        devices.flat_map(|device| device.cdi_device_ids.iter().map(String::as_str)).collect()
    }
}
