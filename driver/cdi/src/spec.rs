use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{ContainerEdits, DeviceName, Kind, Version};

/// A CDI spec: devices of one kind and what each changes in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// The version of the format; at least [`Spec::minimum_version`].
    pub cdi_version: Version,
    /// The kind of all devices.
    pub kind: Kind,
    /// For people and tools; containers do not see them. Need version 0.6.0.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The devices, at least one, each name once.
    pub devices: Vec<Device>,
    /// What changes, once, in a container that gets any of the devices.
    #[serde(default, skip_serializing_if = "ContainerEdits::is_empty")]
    pub container_edits: ContainerEdits,
}

impl Spec {
    /// A spec with these devices and the lowest version that they need.
    pub fn new(kind: Kind, devices: Vec<Device>) -> Self {
        let spec = Self {
            cdi_version: Version::V0_3_0,
            kind,
            annotations: BTreeMap::new(),
            devices,
            container_edits: ContainerEdits::default(),
        };
        spec.at_minimum_version()
    }

    /// The same spec, declaring the lowest version that its content needs.
    pub fn at_minimum_version(mut self) -> Self {
        self.cdi_version = self.minimum_version();
        self
    }
}

/// A device and what it changes in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Device {
    /// Its name, unique among all specs of the kind on the node.
    pub name: DeviceName,
    /// For people and tools; containers do not see them. Need version 0.6.0.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What it changes; must not be empty.
    pub container_edits: ContainerEdits,
}

impl Device {
    /// A device without annotations.
    pub fn new(name: DeviceName, container_edits: ContainerEdits) -> Self {
        Self { name, annotations: BTreeMap::new(), container_edits }
    }
}
