use std::collections::BTreeMap;

use tessera_vocabulary::PciAddress;

/// How an accelerator is tied to others by links of their own, beside PCIe. The default: by none, as far as is known.
///
/// What is unknown is left out. A tie that cannot be shown is not offered, and nothing else is lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// What it is in the switched fabric.
    pub fabric: Fabric,
    /// The accelerators that links go to directly, by address, and how many do. They may be others than this node has.
    pub peers: BTreeMap<PciAddress, u32>,
}

/// What an accelerator is in a switched fabric.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fabric {
    /// Nothing: it has no links to switches, or nobody tells.
    #[default]
    None,
    /// Not a member yet: whoever manages the fabric has not admitted it.
    Forming,
    /// Refused by whoever manages the fabric.
    Failed,
    /// A member of a domain, each of whose members reaches each other.
    Member {
        /// The domain.
        domain: FabricDomain,
        /// The links to switches that carry traffic. A member with fewer than others of its model has broken ones.
        links: u32,
    },
    /// A part of a mesh: each is linked to its neighbours, and through them to all of the domain.
    Mesh(
        /// The domain.
        FabricDomain,
    ),
}

/// The name of a fabric's domain, a text of at most 64 bytes: the same on two accelerators exactly if both are in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FabricDomain(pub String);
