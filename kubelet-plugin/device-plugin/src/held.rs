use std::collections::BTreeMap;

use serde::Deserialize;

use crate::DeviceId;

/// What pods have of all device plugins, as the kubelet tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// By the id of the unit: the resource that pods asked for, and whether they have replicas of it.
    units: BTreeMap<String, (String, bool)>,
}

/// The file in which the kubelet keeps what pods have, in its directory of device plugins.
///
/// It says more than the kubelet's PodResources service: that lists no pods before a kubelet that starts has heard of them
/// from the API server, and never what init containers have. What pods have had stays in the file until the kubelet
/// knows that they have ended and writes it again (`pkg/kubelet/cm/devicemanager/checkpoint`, the same from 1.34 to 1.37).
#[derive(Deserialize)]
struct Checkpoint {
    #[serde(rename = "Data")]
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "PodDeviceEntries")]
    entries: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "ResourceName")]
    resource: String,
    /// By the NUMA node.
    #[serde(rename = "DeviceIDs")]
    devices: Option<BTreeMap<String, Vec<String>>>,
}

impl Held {
    /// Reads the kubelet's checkpoint.
    ///
    /// # Errors
    /// When it is none. A kubelet that starts with it forgets what pods have.
    pub fn read_checkpoint(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let checkpoint: Checkpoint = serde_json::from_slice(bytes)?;
        let mut held = Self::default();
        for entry in checkpoint.data.entries.into_iter().flatten() {
            for id in entry.devices.iter().flat_map(BTreeMap::values).flatten() {
                held.add(&entry.resource, &DeviceId::read(id));
            }
        }
        Ok(held)
    }

    /// Pods have this too.
    pub fn add(&mut self, resource: &str, id: &DeviceId) {
        self.units.insert(id.unit().to_owned(), (resource.to_owned(), id.is_replica()));
    }

    /// What either says.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.units.extend(other.units);
        self
    }

    /// Whether pods have something of a unit.
    pub fn names(&self, unit: &str) -> bool {
        self.units.contains_key(unit)
    }

    /// The units that pods have, each with the resource that they asked for and whether they have replicas.
    pub fn units(&self) -> impl Iterator<Item = (&str, &str, bool)> {
        self.units.iter().map(|(unit, (resource, shared))| (unit.as_str(), resource.as_str(), *shared))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelets_checkpoint_is_read() {
        for (text, expected) in [
            (r#"{"Data":{"PodDeviceEntries":null,"RegisteredDevices":{}},"Checksum":1}"#, Some(vec![])),
            (
                r#"{"Data":{"PodDeviceEntries":[{"PodUID":"1","ContainerName":"a","ResourceName":"nvidia.com/gpu",
                "DeviceIDs":null,"AllocResp":""}]}}"#,
                Some(vec![]),
            ),
            (
                r#"{"Data":{"PodDeviceEntries":[
                {"PodUID":"1","ContainerName":"a","ResourceName":"nvidia.com/gpu","DeviceIDs":{"0":["GPU-1"],"-1":["GPU-2"]},"AllocResp":"CgA="},
                {"PodUID":"1","ContainerName":"b","ResourceName":"nvidia.com/gpu.shared","DeviceIDs":{"1":["GPU-3::1"]},"AllocResp":""}
                ],"RegisteredDevices":{"nvidia.com/gpu":["GPU-1"]}},"Checksum":3}"#,
                Some(vec![
                    ("GPU-1", "nvidia.com/gpu", false),
                    ("GPU-2", "nvidia.com/gpu", false),
                    ("GPU-3", "nvidia.com/gpu.shared", true),
                ]),
            ),
            ("", None),
            ("{}", None),
        ] {
            let held = Held::read_checkpoint(text.as_bytes()).ok();
            assert_eq!(held.as_ref().map(|held| held.units().collect()), expected, "{text}");
        }
    }
}
