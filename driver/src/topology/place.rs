use std::collections::BTreeMap;
use std::fmt;

use tessera_vocabulary::PciAddress;
use tessera_vocabulary::attributes::portable;

use super::islands::{Island, IslandTie, islands};
use crate::{Accelerator, AttributeValue};

/// Where an accelerator lies, in words that are the same on two of them exactly if they lie together.
///
/// Each has every word, since CEL that names an attribute which one device lacks aborts the scheduling of the pod. One
/// that shares nothing with anybody is alone in a place named after its own PCI address: a word for "none" would make
/// `matchAttribute` take two that share nothing for two that share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What ties it to the others of its domain.
    pub fabric_kind: FabricKind,
    /// The domain. Of a fabric that spans nodes, the same on all of them; any other means something on this node only.
    pub fabric_domain: String,
    /// The PCIe switch next to the root port, by the address of its upstream port.
    pub pcie_switch: String,
}

/// What ties the accelerators of a fabric's domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FabricKind {
    /// Nothing: it is alone, or its links are broken.
    None,
    /// Switches.
    Switched,
    /// Links from each to each.
    Direct,
    /// Links from neighbour to neighbour.
    Mesh,
}

impl fmt::Display for FabricKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Switched => "switched",
            Self::Direct => "direct",
            Self::Mesh => "mesh",
        })
    }
}

impl Place {
    /// Its attributes, by their names in a ResourceSlice.
    pub fn attributes(&self) -> BTreeMap<&'static str, AttributeValue> {
        BTreeMap::from([
            (portable::FABRIC_KIND, self.fabric_kind.to_string().as_str().into()),
            (portable::FABRIC_DOMAIN, self.fabric_domain.as_str().into()),
            (portable::PCIE_SWITCH, self.pcie_switch.as_str().into()),
        ])
    }

    fn alone(accelerator: &Accelerator) -> Self {
        let own = accelerator.address.to_string();
        Self {
            fabric_kind: FabricKind::None,
            fabric_domain: own.clone(),
            pcie_switch: accelerator.locality.pcie_switch().map_or(own, |switch| switch.to_string()),
        }
    }
}

/// Where each of a node's accelerators lies. Give it those that are lost too, as they were last seen: what is said of the
/// others must not change with them.
pub fn places<'a>(accelerators: impl IntoIterator<Item = &'a Accelerator>) -> BTreeMap<PciAddress, Place> {
    let mut places = BTreeMap::new();
    for model in by_model(accelerators).values() {
        places.extend(model.iter().map(|one| (one.address, Place::alone(one))));
        for Island { tie, members } in islands(model) {
            let lowest = members.iter().map(|one| one.address).min();
            let (kind, domain) = match tie {
                IslandTie::Switched(domain) => (FabricKind::Switched, domain.0),
                IslandTie::Mesh(domain) => (FabricKind::Mesh, domain.0),
                IslandTie::Direct => {
                    (FabricKind::Direct, lowest.map(|one| format!("direct.{one}")).unwrap_or_default())
                }
            };
            for one in members {
                places.entry(one.address).and_modify(|place| {
                    (place.fabric_kind, place.fabric_domain) = (kind, domain.clone());
                });
            }
        }
    }
    places
}

/// Accelerators of each model, sorted by address.
pub(super) fn by_model<'a>(
    accelerators: impl IntoIterator<Item = &'a Accelerator>,
) -> BTreeMap<&'a str, Vec<&'a Accelerator>> {
    let mut models: BTreeMap<&str, Vec<&Accelerator>> = BTreeMap::new();
    for one in accelerators {
        models.entry(one.model()).or_default().push(one);
    }
    for model in models.values_mut() {
        model.sort_by_key(|one| one.address);
    }
    models
}
