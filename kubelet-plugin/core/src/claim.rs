use std::fmt;
use std::str::FromStr;

use k8s_openapi::api::resource::v1::{
    DeviceAllocationConfiguration, DeviceRequestAllocationResult, OpaqueDeviceConfiguration, ResourceClaim,
};
use serde::{Deserialize, Serialize};
use tessera_vocabulary::DeviceName;

use crate::Identity;

/// The UID of a claim: what everything about it is keyed by, since its name can be given to another claim.
///
/// Safe as part of a file name: letters, digits and `-` only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClaimUid(String);

/// Why a UID was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "claim UID {0:?} is not allowed: it must be 1 to 64 letters, digits and -, starting and ending with a letter or digit"
)]
pub struct InvalidClaimUid(String);

impl ClaimUid {
    /// The UID as the API spells it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClaimUid {
    type Err = InvalidClaimUid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for ClaimUid {
    type Error = InvalidClaimUid;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let inside = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let at_ends = |c: char| c.is_ascii_alphanumeric();
        let good = text.len() <= 64 && text.chars().all(inside) && text.starts_with(at_ends) && text.ends_with(at_ends);
        if good { Ok(Self(text)) } else { Err(InvalidClaimUid(text)) }
    }
}

impl From<ClaimUid> for String {
    fn from(uid: ClaimUid) -> Self {
        uid.0
    }
}

impl fmt::Display for ClaimUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A claim as the kubelet names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRef {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: ClaimUid,
}

impl ClaimRef {
    /// Namespace and name: how the kubelet knows it.
    pub fn full_name(&self) -> (String, String) {
        (self.namespace.clone(), self.name.clone())
    }
}

impl fmt::Display for ClaimRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One device that the scheduler gave to a claim, out of our pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// The request in the claim, without the name of a subrequest.
    pub request: String,
    /// The device.
    pub device: DeviceName,
    /// Which share of a shared device.
    pub share_id: Option<String>,
    /// Whether it is for watching only: such a claim holds nothing and excludes nobody.
    pub admin_access: bool,
}

/// Why a claim says nothing that could be prepared. The texts land in events of pods.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// The claim of that name is another one by now.
    #[error("claim {name} was deleted and made anew (now UID {found}); the pod must be made anew too")]
    Replaced {
        /// Namespace and name.
        name: String,
        /// The UID it has now.
        found: String,
    },
    /// The scheduler has not allocated it, or the allocation was taken back.
    #[error("claim {0} is not allocated; the scheduler allocates it when a pod needs it")]
    NotAllocated(String),
    /// The allocation names a pool of this driver that is not this node's.
    #[error("claim {claim} was allocated device {device} of pool {pool}, which is not of this node ({own})")]
    ForeignPool {
        /// Namespace and name.
        claim: String,
        /// The device in the allocation.
        device: String,
        /// The pool in the allocation.
        pool: String,
        /// This node's pool.
        own: String,
    },
    /// A configuration for this driver that it does not understand.
    #[error("claim {claim}: config of kind {kind} for driver {driver} is not understood; remove it from the {place}")]
    UnknownConfig {
        /// Namespace and name.
        claim: String,
        /// apiVersion and kind.
        kind: String,
        /// This driver.
        driver: String,
        /// The claim or the DeviceClass.
        place: &'static str,
    },
}

/// What a claim was allocated from this node's pool of this driver. What other drivers gave is theirs to prepare.
///
/// # Errors
/// See [`ClaimError`]. Nothing in a claim makes this panic.
pub fn allocations(
    claim: &ResourceClaim,
    wanted: &ClaimRef,
    identity: &Identity,
) -> Result<Vec<Allocation>, ClaimError> {
    let uid = claim.metadata.uid.as_deref().unwrap_or_default();
    if uid != wanted.uid.as_str() {
        return Err(ClaimError::Replaced { name: wanted.to_string(), found: uid.to_owned() });
    }
    let devices = claim
        .status
        .as_ref()
        .and_then(|status| status.allocation.as_ref())
        .and_then(|allocation| allocation.devices.as_ref())
        .ok_or_else(|| ClaimError::NotAllocated(wanted.to_string()))?;

    let driver = &identity.driver;
    let own = identity.pool();
    let allocations: Vec<_> = devices
        .results
        .iter()
        .flatten()
        .filter(|result| result.driver == driver.as_str())
        .map(|result| allocation(result, wanted, &own))
        .collect::<Result<_, _>>()?;

    for config in devices.config.iter().flatten() {
        let Some(opaque) = config.opaque.as_ref().filter(|opaque| opaque.driver == driver.as_str()) else { continue };
        if concerns(config, &allocations) {
            return Err(ClaimError::UnknownConfig {
                claim: wanted.to_string(),
                kind: kind_of(opaque),
                driver: driver.to_string(),
                place: if config.source == "FromClass" { "DeviceClass" } else { "claim" },
            });
        }
    }
    Ok(allocations)
}

/// Whether a config is about a device of ours. Without requests it is about all of them; since 1.37 the API server
/// writes it so whenever a config covers every request.
fn concerns(config: &DeviceAllocationConfiguration, allocations: &[Allocation]) -> bool {
    let requests = config.requests.as_deref().unwrap_or_default();
    let names = |name: &String, request: &str| name.split('/').next() == Some(request);
    !allocations.is_empty()
        && (requests.is_empty()
            || allocations.iter().any(|allocation| requests.iter().any(|name| names(name, &allocation.request))))
}

fn allocation(result: &DeviceRequestAllocationResult, claim: &ClaimRef, own: &str) -> Result<Allocation, ClaimError> {
    let foreign = || ClaimError::ForeignPool {
        claim: claim.to_string(),
        device: result.device.clone(),
        pool: result.pool.clone(),
        own: own.to_owned(),
    };
    if result.pool != own {
        return Err(foreign());
    }
    // Requests are named "request/subrequest" where firstAvailable chose among several; the kubelet wants the first part.
    let request = result.request.split('/').next().unwrap_or_default().to_owned();
    Ok(Allocation {
        request,
        device: result.device.parse().map_err(|_| foreign())?,
        share_id: result.share_id.clone(),
        admin_access: result.admin_access.unwrap_or(false),
    })
}

fn kind_of(opaque: &OpaqueDeviceConfiguration) -> String {
    let field = |name: &str| opaque.parameters.0.get(name).and_then(|value| value.as_str());
    match (field("apiVersion"), field("kind")) {
        (Some(version), Some(kind)) => clip(&format!("{version} {kind}")),
        _ => "unknown (apiVersion and kind are missing)".to_owned(),
    }
}

/// Users choose these words, and an event holds little: keep the beginning.
fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{claim_ref, identity};

    const UID: &str = "11111111-2222-3333-4444-555555555555";

    fn resolve(allocation: Value) -> Result<Vec<Allocation>, ClaimError> {
        let claim = json!({
            "metadata": {"namespace": "team", "name": "training", "uid": UID},
            "spec": {},
            "status": {"allocation": {"devices": allocation}},
        });
        allocations(&serde_json::from_value(claim).unwrap(), &claim_ref(UID), &identity())
    }

    fn result(request: &str, device: &str) -> Value {
        json!({"request": request, "driver": "gpu.nvidia.com", "pool": "node-1/gpu.nvidia.com", "device": device})
    }

    #[test]
    fn takes_what_is_of_this_driver_and_node() {
        let other = json!({"request": "nic", "driver": "nic.example.com", "pool": "anything", "device": "nic-0"});
        let found = resolve(json!({"results": [result("gpu/large", "gpu-a"), other]})).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].request.as_str(), found[0].device.as_str()), ("gpu", "gpu-a"));
        assert!(!found[0].admin_access);
    }

    #[test]
    fn a_config_for_another_driver_is_not_ours_to_judge() {
        let config = json!([{"source": "FromClaim", "opaque": {"driver": "nic.example.com", "parameters": {"x": 1}}}]);
        assert!(resolve(json!({"results": [result("gpu", "gpu-a")], "config": config})).is_ok());
    }

    #[test]
    fn what_cannot_be_prepared_is_refused_with_its_reason() {
        let config = |source: &str, requests: Value, parameters: Value| {
            json!({"results": [result("gpu", "gpu-a")],
                   "config": [{"source": source, "requests": requests,
                               "opaque": {"driver": "gpu.nvidia.com", "parameters": parameters}}]})
        };
        let kind = json!({"apiVersion": "resource.nvidia.com/v1beta1", "kind": "GpuConfig"});
        let mut foreign = result("gpu", "gpu-a");
        foreign["pool"] = json!("node-2/gpu.nvidia.com");
        let texts: Vec<_> = [
            json!({"results": [foreign]}),
            json!({"results": [result("gpu", "../../etc/passwd")]}),
            config("FromClaim", json!([]), kind.clone()),
            config("FromClass", json!(["gpu"]), kind.clone()),
            config("FromClaim", json!(["gpu/large"]), json!({"kind": 7})),
            config("FromClaim", json!([]), json!({"apiVersion": "v1", "kind": "x".repeat(5000)})),
        ]
        .into_iter()
        .map(|allocation| resolve(allocation).unwrap_err().to_string())
        .collect();
        assert!(texts.iter().all(|text| text.len() < 256), "an event holds 256 characters: {texts:#?}");
        insta::assert_json_snapshot!(texts);
        assert!(
            resolve(config("FromClaim", json!(["other"]), kind)).is_ok(),
            "a config for another request is not ours"
        );
    }

    #[test]
    fn another_claim_of_the_same_name_is_another_claim() {
        let claim = |uid: &str, status: Value| {
            let claim = json!({"metadata": {"uid": uid}, "spec": {}, "status": status});
            allocations(&serde_json::from_value(claim).unwrap(), &claim_ref(UID), &identity())
        };
        assert!(matches!(claim("another", json!({})), Err(ClaimError::Replaced { .. })));
        assert!(matches!(claim(UID, json!({})), Err(ClaimError::NotAllocated(_))));
    }

    #[test]
    fn a_uid_is_safe_in_a_file_name() {
        for bad in ["", ".", "..", "a/b", "-a", "a-", "a_b", "ä", &"a".repeat(65)] {
            assert!(bad.parse::<ClaimUid>().is_err(), "{bad:?} was taken");
        }
        assert!(UID.parse::<ClaimUid>().is_ok());
    }
}
