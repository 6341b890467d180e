use std::fmt;
use std::str::FromStr;

use k8s_openapi::api::resource::v1::DeviceRequestAllocationResult;
use serde::{Deserialize, Serialize};
use tessera_config::{ConfigError, DeviceConfig, DeviceType, Entry, Place, resolve};
use tessera_vocabulary::{DeviceName, domain_pool};

use crate::{ClaimObject, Identity};

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

/// Whose pool a device is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The node's own.
    #[default]
    Node,
    /// That of a fabric domain which spans nodes, this one among them: the device is what all of them have of it.
    Domain,
}

impl Scope {
    /// Whether records say nothing of it, as before there was anything else.
    pub(crate) fn is_node(&self) -> bool {
        *self == Self::Node
    }
}

/// One device that the scheduler gave to a claim, out of a pool of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Whose pool it is of.
    pub scope: Scope,
    /// The request in the claim, without the name of a subrequest.
    pub request: String,
    /// The same with the name of the subrequest, where there is one: `request/subrequest`.
    pub full_request: String,
    /// The device.
    pub device: DeviceName,
    /// Which share of a shared device.
    pub share_id: Option<String>,
    /// Whether it is for watching only: such a claim holds nothing and excludes nobody.
    pub admin_access: bool,
}

/// What a claim was granted that is this node's to prepare, and how it is to be set up.
#[derive(Clone, Debug, PartialEq)]
pub struct Granted {
    /// The devices.
    pub allocations: Vec<Allocation>,
    /// What the claim and its DeviceClasses say about the set-up, in their order of precedence. Not understood yet: that
    /// takes knowing what the devices are.
    pub configs: Vec<Config>,
}

/// One opaque config.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Who says it.
    pub place: Place,
    /// About which requests; all where none is named.
    pub requests: Vec<String>,
    /// What.
    pub parameters: serde_json::Value,
}

impl Granted {
    /// How each device is to be set up, in their order. `types` says in the same order what they are.
    ///
    /// # Errors
    /// The first config that cannot be followed.
    pub fn set_up(&self, types: &[DeviceType]) -> Result<Vec<DeviceConfig>, ConfigError> {
        let mut entries = Vec::with_capacity(self.configs.len());
        for Config { place, requests, parameters } in &self.configs {
            entries.push(Entry { place: *place, requests, parameters });
        }
        let mut devices = Vec::with_capacity(self.allocations.len());
        for (allocation, device_type) in self.allocations.iter().zip(types) {
            devices.push(tessera_config::Device { request: &allocation.full_request, device_type: *device_type });
        }
        resolve(&entries, &devices)
    }
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
    /// The allocation names a pool of this driver that is neither this node's nor that of a fabric domain.
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
}

/// What a claim was allocated from this node's pool of this driver, and from those of fabric domains. What other drivers gave
/// is theirs to prepare.
///
/// # Errors
/// See [`ClaimError`]. Nothing in a claim makes this panic.
pub fn allocations(claim: &ClaimObject, wanted: &ClaimRef, identity: &Identity) -> Result<Granted, ClaimError> {
    let uid = claim.uid().unwrap_or_default();
    if uid != wanted.uid.as_str() {
        return Err(ClaimError::Replaced { name: wanted.to_string(), found: uid.to_owned() });
    }
    let devices = claim
        .allocation()
        .and_then(|allocation| allocation.devices.as_ref())
        .ok_or_else(|| ClaimError::NotAllocated(wanted.to_string()))?;

    let driver = &identity.driver;
    let allocations: Vec<_> = devices
        .results
        .iter()
        .flatten()
        .filter(|result| result.driver == driver.as_str())
        .map(|result| allocation(result, wanted, identity))
        .collect::<Result<_, _>>()?;

    let configs = devices.config.iter().flatten().filter_map(|config| {
        let opaque = config.opaque.as_ref().filter(|opaque| opaque.driver == driver.as_str())?;
        Some(Config {
            place: Place::of_allocated(&config.source),
            requests: config.requests.clone().unwrap_or_default(),
            parameters: opaque.parameters.0.clone(),
        })
    });
    let configs = if allocations.is_empty() { Vec::new() } else { configs.collect() };
    Ok(Granted { allocations, configs })
}

fn allocation(
    result: &DeviceRequestAllocationResult,
    claim: &ClaimRef,
    identity: &Identity,
) -> Result<Allocation, ClaimError> {
    let own = identity.pool();
    let foreign = || ClaimError::ForeignPool {
        claim: claim.to_string(),
        device: result.device.clone(),
        pool: result.pool.clone(),
        own: own.clone(),
    };
    let device: DeviceName = result.device.parse().map_err(|_| foreign())?;
    let scope = match &result.pool {
        pool if *pool == own => Scope::Node,
        // There is one device in it.
        pool if *pool == domain_pool(&identity.driver, &device) => Scope::Domain,
        _ => return Err(foreign()),
    };
    // Requests are named "request/subrequest" where firstAvailable chose among several; the kubelet wants the first part.
    let request = result.request.split('/').next().unwrap_or_default().to_owned();
    Ok(Allocation {
        scope,
        request,
        full_request: result.request.clone(),
        device,
        share_id: result.share_id.clone(),
        admin_access: result.admin_access.unwrap_or(false),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{claim_ref, identity};

    const UID: &str = "11111111-2222-3333-4444-555555555555";

    fn granted(allocation: Value) -> Result<Granted, ClaimError> {
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
        let found = granted(json!({"results": [result("gpu/large", "gpu-a"), other]})).unwrap().allocations;
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].request.as_str(), found[0].device.as_str()), ("gpu", "gpu-a"));
        assert_eq!(found[0].full_request, "gpu/large");
        assert!(!found[0].admin_access);
    }

    #[test]
    fn what_is_of_another_node_or_no_name_is_refused() {
        let mut foreign = result("gpu", "gpu-a");
        foreign["pool"] = json!("node-2/gpu.nvidia.com");
        let texts = [foreign, result("gpu", "../../etc/passwd")]
            .map(|result| granted(json!({"results": [result]})).unwrap_err().to_string());
        assert!(texts.iter().all(|text| text.len() < 256), "an event holds 256 characters: {texts:#?}");
        insta::assert_json_snapshot!(texts);
    }

    #[test]
    fn what_is_of_a_domain_is_this_nodes_too() {
        let of = |driver: &str, pool: &str| {
            let device = "domain-rack-7-8a7d86ad";
            let result = json!({"request": "rack", "driver": driver, "pool": pool, "device": device});
            granted(json!({"results": [result]}))
        };
        let (gpus, pool) = ("gpu.nvidia.com", "domains/gpu.nvidia.com/domain-rack-7-8a7d86ad");
        assert_eq!(of(gpus, pool).unwrap().allocations[0].scope, Scope::Domain);
        assert_eq!(of("tpu.google.com", pool).unwrap().allocations, []);
        for other in ["domains/tpu.google.com/domain-rack-7-8a7d86ad", "domains/gpu.nvidia.com/domain-rack-8-00000000"]
        {
            let refused = of(gpus, other).unwrap_err();
            assert!(matches!(&refused, ClaimError::ForeignPool { .. }) && refused.to_string().len() < 256, "{refused}");
        }
        assert_eq!(granted(json!({"results": [result("gpu", "gpu-a")]})).unwrap().allocations[0].scope, Scope::Node);
    }

    #[test]
    fn configs_are_followed_or_refused_with_their_reason() {
        let config = |driver: &str, source: &str, requests: Value, parameters: Value| {
            json!({"results": [result("gpu", "gpu-a")],
                   "config": [{"source": source, "requests": requests,
                               "opaque": {"driver": driver, "parameters": parameters}}]})
        };
        let set_up = |allocation| granted(allocation).unwrap().set_up(&[DeviceType::Gpu]);
        let kind = json!({"apiVersion": "resource.nvidia.com/v1beta1", "kind": "GpuConfig"});
        let mut sharing = kind.clone();
        sharing["sharing"] = json!({"strategy": "TimeSlicing"});
        let own = |source, requests, parameters| config("gpu.nvidia.com", source, requests, parameters);
        for taken in [
            own("FromClaim", json!([]), kind.clone()),
            own("FromClass", json!(["gpu"]), kind),
            own("FromClaim", json!(["other"]), json!({"kind": 7})),
            config("nic.example.com", "FromClaim", json!([]), json!({"x": 1})),
        ] {
            assert_eq!(set_up(taken), Ok(vec![DeviceConfig::default_for(DeviceType::Gpu)]));
        }
        let texts: Vec<_> = [
            own("FromClaim", json!([]), sharing),
            own("FromClaim", json!(["gpu"]), json!({"kind": 7})),
            own("FromClaim", json!([]), json!({"apiVersion": "v1", "kind": "x".repeat(5000)})),
        ]
        .into_iter()
        .map(|allocation| set_up(allocation).unwrap_err().to_string())
        .collect();
        insta::assert_json_snapshot!(texts);
    }

    #[test]
    fn of_a_claim_over_several_vendors_each_driver_reads_its_own_configs() {
        let config = |driver: &str, request: &str, parameters: Value| json!({"source": "FromClaim", "requests": [request], "opaque": {"driver": driver, "parameters": parameters}});
        let tpu =
            json!({"apiVersion": "tpu.resource.google.com/v1alpha1", "kind": "TpuConfig", "logging": {"level": 2}});
        let gpu = json!({"apiVersion": "resource.nvidia.com/v1beta1", "kind": "GpuConfig"});
        let configs = [config("tpu.google.com", "any/tpu", tpu), config("gpu.nvidia.com", "any/gpu", gpu.clone())];
        let found = granted(json!({"results": [result("any/gpu", "gpu-a")], "config": configs})).unwrap();
        assert_eq!(found.configs.iter().map(|config| &config.parameters).collect::<Vec<_>>(), [&gpu]);
        assert_eq!(found.set_up(&[DeviceType::Gpu]), Ok(vec![DeviceConfig::default_for(DeviceType::Gpu)]));
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
