use std::collections::BTreeMap;

use cdi::{ContainerEdits, Device, DeviceName, DeviceNode, Document, InvalidName, Kind, Spec, Undocumentable};
use tessera_core::{Part, Unit};

/// The name of the CDI device that holds what all units say alike: a container that gets any of them gets it too, once.
pub const SHARED: &str = "shared";

/// Why what containers need cannot be described to the container runtime.
#[derive(Debug, thiserror::Error)]
pub enum Undescribable {
    /// The id of a unit is no name for a CDI device.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// A container edit that CDI does not take.
    #[error(transparent)]
    Edits(#[from] Undocumentable),
}

/// A CDI spec, and the units that it describes.
#[derive(Debug)]
pub struct Description {
    /// The spec.
    pub document: Document,
    /// The kind of the devices in it.
    pub kind: Kind,
    /// The device nodes that each unit in it brings, by the unit's id, which is the name of a CDI device.
    pub units: BTreeMap<String, Vec<DeviceNode>>,
    /// Whether there is a device [`SHARED`] beside them.
    pub shares: bool,
    /// What is missing for the others, by their ids.
    pub missing: Vec<(String, String)>,
}

/// One spec for all units of a driver, so that nothing has to be written when a container starts. `None` where there is no
/// unit that can be described.
///
/// # Errors
/// See [`Undescribable`].
pub fn spec(
    kind: &Kind,
    units: &[Unit<'_>],
    edits: impl Fn(Part<'_>) -> Result<ContainerEdits, String>,
) -> Result<Option<Description>, Undescribable> {
    let (mut described, mut missing) = (Vec::new(), Vec::new());
    for unit in units {
        match edits(unit.part()) {
            Ok(edits) => described.push((unit.id.clone(), edits)),
            Err(cause) => missing.push((unit.id.clone(), cause)),
        }
    }
    let shared = shared(described.iter().map(|(_, edits)| edits));
    let mut devices = Vec::new();
    if !shared.is_empty() {
        devices.push(Device::new(SHARED.parse()?, shared.clone()));
    }
    let mut nodes = BTreeMap::new();
    for (id, mut edits) in described {
        nodes.insert(id.clone(), edits.device_nodes.clone());
        edits.leave_out(&shared);
        devices.push(Device::new(id.parse::<DeviceName>()?, edits));
    }
    if nodes.is_empty() {
        return Ok(None);
    }
    let document = Spec::new(kind.clone(), devices).document()?;
    Ok(Some(Description { document, kind: kind.clone(), units: nodes, shares: !shared.is_empty(), missing }))
}

/// The environment, mounts and hooks that all of these have.
fn shared<'a>(mut all: impl Iterator<Item = &'a ContainerEdits>) -> ContainerEdits {
    let Some(first) = all.next() else { return ContainerEdits::default() };
    let mut shared = ContainerEdits {
        env: first.env.clone(),
        hooks: first.hooks.clone(),
        mounts: first.mounts.clone(),
        ..ContainerEdits::default()
    };
    for other in all {
        shared.env.retain(|one| other.env.contains(one));
        shared.hooks.retain(|one| other.hooks.contains(one));
        shared.mounts.retain(|one| other.mounts.contains(one));
    }
    shared
}

#[cfg(test)]
mod tests {
    use cdi::Mount;
    use tessera_core::{Ledger, Offering};

    use super::*;
    use crate::testing::{gpu, inventory};

    fn edits(part: Part<'_>) -> Result<ContainerEdits, String> {
        let bus = part.accelerator().address.bus;
        if bus == 3 {
            return Err("its node is missing".to_owned());
        }
        Ok(ContainerEdits {
            env: vec!["ALL=1".to_owned(), format!("ONE={bus}")],
            device_nodes: vec![DeviceNode::new("/dev/nvidiactl"), DeviceNode::new(format!("/dev/nvidia{bus}"))],
            mounts: vec![Mount {
                host_path: "/lib/a".to_owned(),
                container_path: "/lib/a".to_owned(),
                ..Mount::default()
            }],
            ..ContainerEdits::default()
        })
    }

    #[test]
    fn what_all_have_in_common_is_said_once() {
        let kind = Kind::new("tessera.gpu.nvidia.com", "device").unwrap();
        let describe = |buses: &[u8]| {
            let inventory = inventory(Offering::NOTHING, buses.iter().map(|bus| gpu(*bus)).collect());
            spec(&kind, &inventory.units(&Ledger::default()), edits).unwrap()
        };
        assert!(describe(&[]).is_none() && describe(&[3]).is_none());
        let described = describe(&[1, 2, 3]).unwrap();
        assert!(described.shares);
        assert_eq!(described.units.keys().collect::<Vec<_>>(), [gpu(1).uuid(), gpu(2).uuid()]);
        let nodes: Vec<_> = described.units[gpu(2).uuid()].iter().map(|node| node.path.as_str()).collect();
        assert_eq!(nodes, ["/dev/nvidiactl", "/dev/nvidia2"]);
        assert_eq!(described.missing, [(gpu(3).uuid().to_owned(), "its node is missing".to_owned())]);
        let json: serde_json::Value = serde_json::from_str(described.document.as_str()).unwrap();
        insta::assert_json_snapshot!(json);
    }
}
