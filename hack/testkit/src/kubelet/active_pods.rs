//! Pods as the kubelet's pod resources service lists them.

use std::collections::BTreeMap;

use tessera_kubelet_api::dra_v1;
use tessera_kubelet_api::pod_resources_v1::{
    CdiDevice, ClaimResource, ContainerDevices, ContainerResources, DynamicResource, PodResources,
};

use crate::Claim;

/// A pod that is active, with the claims that its container names. A claim that no container names is not listed.
#[derive(Clone, Debug, PartialEq)]
pub struct ActivePod {
    pub(super) namespace: String,
    pub(super) name: String,
    claims: Vec<ActiveClaim>,
    /// What it has of device plugins, by the resource.
    devices: Vec<(String, Vec<String>)>,
}

/// What the kubelet knows of a claim: the devices that each driver answered with.
#[derive(Clone, Debug, PartialEq)]
struct ActiveClaim {
    namespace: String,
    name: String,
    drivers: BTreeMap<String, Vec<dra_v1::Device>>,
}

impl ActivePod {
    /// A pod that uses no claim yet, in the namespace `team`.
    pub fn new(name: &str) -> Self {
        Self { namespace: "team".to_owned(), name: name.to_owned(), claims: Vec::new(), devices: Vec::new() }
    }

    /// In another namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// With the devices that [`Claim::DRIVER`] answered with for a claim.
    #[must_use]
    pub fn claim(self, claim: &Claim, devices: &[dra_v1::Device]) -> Self {
        let drivers = [(Claim::DRIVER.to_owned(), devices.to_vec())];
        self.claim_of_drivers(&claim.namespace, &claim.name, drivers.into())
    }

    /// With what several drivers answered with for a claim.
    #[must_use]
    pub fn claim_of_drivers(
        mut self,
        namespace: &str,
        name: &str,
        drivers: BTreeMap<String, Vec<dra_v1::Device>>,
    ) -> Self {
        self.claims.push(ActiveClaim { namespace: namespace.to_owned(), name: name.to_owned(), drivers });
        self
    }

    /// With devices of a device plugin.
    #[must_use]
    pub fn devices(mut self, resource: &str, ids: &[String]) -> Self {
        self.devices.push((resource.to_owned(), ids.to_vec()));
        self
    }

    pub(super) fn key(&self) -> (String, String) {
        (self.namespace.clone(), self.name.clone())
    }

    /// The pod on the wire; its one container is called `main`.
    pub(super) fn message(&self) -> PodResources {
        let dynamic_resources = self.claims.iter().map(ActiveClaim::message).collect();
        let of_resource = |(resource, ids): &(String, Vec<String>)| ContainerDevices {
            resource_name: resource.clone(),
            device_ids: ids.clone(),
            ..ContainerDevices::default()
        };
        let devices = self.devices.iter().map(of_resource).collect();
        let name = "main".to_owned();
        let main = ContainerResources { name, devices, dynamic_resources, ..ContainerResources::default() };
        PodResources {
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            containers: vec![main],
            ..PodResources::default()
        }
    }
}

impl ActiveClaim {
    fn message(&self) -> DynamicResource {
        DynamicResource {
            claim_name: self.name.clone(),
            claim_namespace: self.namespace.clone(),
            claim_resources: self.drivers.iter().flat_map(|(driver, devices)| listed(driver, devices)).collect(),
        }
    }
}

/// With the bug of kubelets 1.34 to 1.37.1: their loop over a driver's devices never empties the list of CDI ids, so
/// that each device also lists those of the devices before it (`pkg/kubelet/cm/dra/manager.go`, the claim infos of a
/// container).
fn listed(driver: &str, devices: &[dra_v1::Device]) -> Vec<ClaimResource> {
    let mut so_far = Vec::new();
    let resource = |device: &dra_v1::Device| {
        so_far.extend(device.cdi_device_ids.iter().map(|id| CdiDevice { name: id.clone() }));
        ClaimResource {
            cdi_devices: so_far.clone(),
            driver_name: driver.to_owned(),
            pool_name: device.pool_name.clone(),
            device_name: device.device_name.clone(),
            share_id: device.share_id.clone(),
        }
    };
    devices.iter().map(resource).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str, ids: &[&str], share: Option<&str>) -> dra_v1::Device {
        dra_v1::Device {
            request_names: vec!["gpu".to_owned()],
            pool_name: Claim::POOL.to_owned(),
            device_name: name.to_owned(),
            cdi_device_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            share_id: share.map(str::to_owned),
        }
    }

    #[test]
    fn each_device_lists_the_ids_of_those_before_it() {
        let nic = device("nic-0", &["nic=0"], None);
        let drivers = [
            (Claim::DRIVER, vec![device("a", &["a=1", "a=2"], None), device("b", &["b=1"], Some("s1"))]),
            ("nic.example.com", vec![nic]),
        ];
        let drivers = drivers.map(|(driver, devices)| (driver.to_owned(), devices));
        let pod = ActivePod::new("pod").claim_of_drivers("team", "training", drivers.into()).message();
        let claim = &pod.containers[0].dynamic_resources[0];
        assert_eq!((claim.claim_namespace.as_str(), claim.claim_name.as_str()), ("team", "training"));
        let resources = claim.claim_resources.iter().map(|resource| {
            let ids: Vec<_> = resource.cdi_devices.iter().map(|id| id.name.as_str()).collect();
            (resource.driver_name.as_str(), resource.device_name.as_str(), ids, resource.share_id.as_deref())
        });
        assert_eq!(
            resources.collect::<Vec<_>>(),
            [
                (Claim::DRIVER, "a", vec!["a=1", "a=2"], None),
                (Claim::DRIVER, "b", vec!["a=1", "a=2", "b=1"], Some("s1")),
                ("nic.example.com", "nic-0", vec!["nic=0"], None),
            ]
        );
    }
}
