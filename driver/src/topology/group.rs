use std::collections::BTreeMap;
use std::fmt;

use tessera_vocabulary::attributes::{portable, standard};
use tessera_vocabulary::{DeviceName, PciAddress, capacities};

use super::place::{FabricKind, Place};
use crate::{Accelerator, AttributeValue};

/// Accelerators of one model that are handed out together, each tied to each as well as to any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The strongest tie that all members share.
    pub kind: GroupKind,
    /// The members, by address: 2, 4 or 8.
    pub members: Vec<PciAddress>,
    attributes: BTreeMap<&'static str, AttributeValue>,
    capacities: BTreeMap<&'static str, u64>,
}

/// What ties the members of a group, the strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupKind {
    /// Their place in a mesh: their vendor says that these can be used together, and no others.
    Mesh,
    /// Switches of a fabric: every member reaches every other with all of its links.
    Fabric,
    /// Links of their own from each to each, the same number everywhere.
    Links,
    /// The PCIe switch next to the root port: what they say to each other never reaches the processor.
    PcieSwitch,
    /// The NUMA node of their slots.
    NumaNode,
}

impl fmt::Display for GroupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mesh => "mesh",
            Self::Fabric => "fabric",
            Self::Links => "links",
            Self::PcieSwitch => "pcieSwitch",
            Self::NumaNode => "numaNode",
        })
    }
}

impl Group {
    /// `members` are sorted by address.
    pub(super) fn new(kind: GroupKind, members: &[&Accelerator], places: &BTreeMap<PciAddress, Place>) -> Self {
        let addresses: Vec<PciAddress> = members.iter().map(|one| one.address).collect();
        let places: Vec<&Place> = addresses.iter().filter_map(|address| places.get(address)).collect();
        Self {
            kind,
            attributes: attributes(kind, members, &places, &DeviceName::group(&addresses)),
            capacities: capacities(members),
            members: addresses,
        }
    }

    /// The name under which it is published. It follows from the members alone.
    pub fn name(&self) -> DeviceName {
        DeviceName::group(&self.members)
    }

    /// Its attributes, by their names in a ResourceSlice: what its members have in common, and what it is itself.
    ///
    /// The NUMA node and the PCIe root are there only where all members share one. `matchAttribute` with another
    /// driver's device (a network card) then passes over groups that lie astride, as it should; CEL has to ask first
    /// whether they are there, as on single accelerators.
    pub fn attributes(&self) -> &BTreeMap<&'static str, AttributeValue> {
        &self.attributes
    }

    /// Its capacities, by their names in a ResourceSlice: the sums of its members', and their number.
    pub fn capacities(&self) -> &BTreeMap<&'static str, u64> {
        &self.capacities
    }
}

fn attributes(
    kind: GroupKind,
    members: &[&Accelerator],
    places: &[&Place],
    name: &DeviceName,
) -> BTreeMap<&'static str, AttributeValue> {
    let each: Vec<_> = members.iter().map(|one| one.attributes()).collect();
    let mut common = each.first().cloned().unwrap_or_default();
    common.retain(|attribute, value| each.iter().all(|other| other.get(attribute) == Some(value)));
    // Even on a group of one an address would be a lie.
    common.remove(standard::PCI_BUS_ID);
    // What members do not share has the name of the group: alone in its place, as a single accelerator would be.
    let shared = |word: fn(&Place) -> &str| {
        let first = places.first().map(|place| word(place));
        first.filter(|first| places.iter().all(|place| word(place) == *first)).unwrap_or(name.as_str()).into()
    };
    let fabric = places.first().map_or(FabricKind::None, |place| place.fabric_kind);
    let fabric = if kind <= GroupKind::Links { fabric } else { FabricKind::None };
    common.extend(members.first().map(|first| first.vendor().group_attributes(members)).unwrap_or_default());
    common.extend([
        (portable::KIND, portable::KIND_GROUP.into()),
        (portable::GROUP_SIZE, AttributeValue::Int(i64::try_from(members.len()).unwrap_or(i64::MAX))),
        (portable::GROUP_TIE, kind.to_string().as_str().into()),
        (portable::FABRIC_KIND, fabric.to_string().as_str().into()),
        (portable::FABRIC_DOMAIN, shared(|place| &place.fabric_domain)),
        (portable::PCIE_SWITCH, shared(|place| &place.pcie_switch)),
    ]);
    common
}

fn capacities(members: &[&Accelerator]) -> BTreeMap<&'static str, u64> {
    let mut sums = BTreeMap::new();
    for (name, value) in members.iter().flat_map(|one| one.capacities()) {
        *sums.entry(name).or_default() += value;
    }
    // After the sums: whether a single accelerator counts itself is its own affair.
    sums.insert(capacities::ACCELERATORS, members.len() as u64);
    sums
}
