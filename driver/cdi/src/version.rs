use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

use crate::{ContainerEdits, Spec};

/// A version of the CDI format. 0.1.0 and 0.2.0 were released too, but every loader refuses specs that declare them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum Version {
    /// The first that is in use.
    V0_3_0,
    /// Adds the type of a mount.
    V0_4_0,
    /// Adds the host path of a device node, and names of devices that start with a digit.
    V0_5_0,
    /// Adds annotations, and classes with a dot.
    V0_6_0,
    /// Adds Intel RDT and additional groups.
    V0_7_0,
    /// Adds nothing to the format.
    V0_8_0,
    /// Adds nothing to the format.
    V1_0_0,
    /// Adds network devices, and RDT schemata and monitoring.
    V1_1_0,
}

/// A spec declares a version that this crate does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("CDI version {0:?} is not known: the versions are 0.3.0 to 0.8.0, 1.0.0 and 1.1.0")]
pub struct UnknownVersion(pub String);

impl Version {
    /// All versions, oldest first.
    pub const ALL: [Self; 8] = [
        Self::V0_3_0,
        Self::V0_4_0,
        Self::V0_5_0,
        Self::V0_6_0,
        Self::V0_7_0,
        Self::V0_8_0,
        Self::V1_0_0,
        Self::V1_1_0,
    ];

    /// The version as specs declare it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_4_0 => "0.4.0",
            Self::V0_5_0 => "0.5.0",
            Self::V0_6_0 => "0.6.0",
            Self::V0_7_0 => "0.7.0",
            Self::V0_8_0 => "0.8.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }
}

impl Spec {
    /// The lowest version that has everything this spec uses (`MinimumRequiredVersion` of the Go module's `specs-go`).
    pub fn minimum_version(&self) -> Version {
        let with_edits = |found: Version, edits: &ContainerEdits| found.max(edits.minimum_version());
        let mut version = with_edits(Version::V0_3_0, &self.container_edits);
        if !self.annotations.is_empty() || self.kind.class().contains('.') {
            version = version.max(Version::V0_6_0);
        }
        for device in &self.devices {
            version = with_edits(version, &device.container_edits);
            if device.name.as_str().starts_with(|first: char| first.is_ascii_digit()) {
                version = version.max(Version::V0_5_0);
            }
            if !device.annotations.is_empty() {
                version = version.max(Version::V0_6_0);
            }
        }
        version
    }
}

impl ContainerEdits {
    fn minimum_version(&self) -> Version {
        let newest_rdt = |rdt: &crate::IntelRdt| !rdt.schemata.is_empty() || rdt.enable_monitoring;
        if !self.net_devices.is_empty() || self.intel_rdt.as_ref().is_some_and(newest_rdt) {
            Version::V1_1_0
        } else if self.intel_rdt.is_some() || !self.additional_gids.is_empty() {
            Version::V0_7_0
        } else if self.device_nodes.iter().any(|node| node.host_path.is_some()) {
            Version::V0_5_0
        } else if self.mounts.iter().any(|mount| mount.mount_type.is_some()) {
            Version::V0_4_0
        } else {
            Version::V0_3_0
        }
    }
}

impl FromStr for Version {
    type Err = UnknownVersion;

    /// Takes a leading `v`, as the Go module does.
    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        let number = text.strip_prefix('v').unwrap_or(text);
        let known = Self::ALL.into_iter().find(|version| version.as_str() == number);
        known.ok_or_else(|| UnknownVersion(text.to_owned()))
    }
}

impl TryFrom<String> for Version {
    type Error = UnknownVersion;

    fn try_from(text: String) -> Result<Self, UnknownVersion> {
        text.parse()
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, DeviceNode, IntelRdt, Mount, NetDevice};

    fn with(edits: ContainerEdits) -> Spec {
        Spec::new("example.com/gpu".parse().unwrap(), vec![Device::new("a".parse().unwrap(), edits)])
    }

    fn env() -> ContainerEdits {
        ContainerEdits { env: vec!["A=b".to_owned()], ..Default::default() }
    }

    fn rdt(rdt: IntelRdt) -> ContainerEdits {
        ContainerEdits { intel_rdt: Some(rdt), ..Default::default() }
    }

    #[test]
    fn a_spec_declares_the_lowest_version_that_has_what_it_uses() {
        let node = DeviceNode { host_path: Some("/dev/b".to_owned()), ..DeviceNode::new("/dev/a") };
        let mount = Mount { mount_type: Some("bind".to_owned()), ..Default::default() };
        let net = NetDevice { host_interface_name: "a".to_owned(), name: "b".to_owned() };
        let annotations = || [("key".to_owned(), "value".to_owned())].into();
        let class = |kind: &str| Spec { kind: kind.parse().unwrap(), ..with(env()) };
        let device = |name: &str| Spec { devices: vec![Device::new(name.parse().unwrap(), env())], ..with(env()) };

        for (what, spec, needed) in [
            ("nothing new", with(env()), Version::V0_3_0),
            ("dot in the vendor", class("a.b/c"), Version::V0_3_0),
            ("digit in a device name", device("a0"), Version::V0_3_0),
            ("mount type", with(ContainerEdits { mounts: vec![mount], ..Default::default() }), Version::V0_4_0),
            ("host path", with(ContainerEdits { device_nodes: vec![node], ..Default::default() }), Version::V0_5_0),
            ("device name with leading digit", device("0"), Version::V0_5_0),
            ("annotations", Spec { annotations: annotations(), ..with(env()) }, Version::V0_6_0),
            (
                "annotations of a device",
                Spec {
                    devices: vec![Device { annotations: annotations(), ..with(env()).devices.remove(0) }],
                    ..with(env())
                },
                Version::V0_6_0,
            ),
            ("dot in the class", class("a/b.c"), Version::V0_6_0),
            ("groups", with(ContainerEdits { additional_gids: vec![44], ..Default::default() }), Version::V0_7_0),
            ("RDT", with(rdt(IntelRdt::default())), Version::V0_7_0),
            (
                "RDT schemata",
                with(rdt(IntelRdt { schemata: vec!["L3:0=f".to_owned()], ..Default::default() })),
                Version::V1_1_0,
            ),
            ("RDT monitoring", with(rdt(IntelRdt { enable_monitoring: true, ..Default::default() })), Version::V1_1_0),
            ("network", with(ContainerEdits { net_devices: vec![net], ..Default::default() }), Version::V1_1_0),
        ] {
            assert_eq!(spec.minimum_version(), needed, "{what}");
            // Edits of the whole spec count like those of a device.
            let edits = spec.devices[0].container_edits.clone();
            let moved = Spec { container_edits: edits, devices: with(env()).devices, ..spec.clone() };
            let by_edits = spec.devices[0].container_edits.minimum_version();
            assert!(moved.minimum_version() >= by_edits, "{what}, for the whole spec");
            assert_eq!(spec.at_minimum_version().cdi_version, needed, "{what}");
        }
    }

    #[test]
    fn versions_are_ordered_and_read_as_they_are_written() {
        assert!(Version::ALL.is_sorted());
        for version in Version::ALL {
            assert_eq!(version.to_string().parse(), Ok(version));
            assert_eq!(format!("v{version}").parse(), Ok(version));
            assert_eq!(serde_json::to_string(&version).unwrap(), format!("\"{version}\""));
        }
        for unknown in ["", "v", "0.2.0", "0.9.0", "1.2.0", "1.1", "vv1.1.0", "1.1.0 "] {
            assert_eq!(unknown.parse::<Version>(), Err(UnknownVersion(unknown.to_owned())));
        }
    }
}
