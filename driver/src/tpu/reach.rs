use std::collections::BTreeSet;
use std::path::PathBuf;
use std::{fmt, fs};

use cdi::DeviceNode;
use tessera_vocabulary::PciAddress;

use crate::vfio::{Binding, Interface, bound_to, group_of};
use crate::{Host, Root};

/// By what a program reaches a chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Google's own kernel driver has it: `/dev/accel<n>`.
    Accel(u32),
    /// VFIO has it: `/dev/vfio/<group>`.
    Vfio(u32),
}

/// A chip's device node is not there.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} does not exist; load the chip's driver, or bind the chip to vfio-pci", .0.display())]
pub struct MissingNode(PathBuf);

impl Reach {
    /// The number of its own node. No two chips of a host have the same, whatever else comes and goes.
    pub fn number(self) -> u32 {
        match self {
            Self::Accel(number) | Self::Vfio(number) => number,
        }
    }

    /// The paths of the nodes that a program needs, its own first.
    fn paths(self) -> Vec<String> {
        match self {
            Self::Accel(number) => vec![format!("/dev/accel{number}")],
            Self::Vfio(group) => {
                let interface = Interface::Legacy { group };
                vec![interface.node(), interface.shared_node().to_owned()]
            }
        }
    }

    /// The nodes, for a container.
    pub(super) fn device_nodes(self, host: &Host) -> Result<Vec<DeviceNode>, MissingNode> {
        self.missing(host.root()).map_or(Ok(()), Err)?;
        Ok(self.paths().into_iter().map(|path| host.root().device_node(path)).collect())
    }

    fn missing(self, root: &Root) -> Option<MissingNode> {
        self.paths().iter().map(|path| root.seen_by_agent(path)).find(|path| !path.exists()).map(MissingNode)
    }

    /// How a chip is reached now. `nodes` are those that Google's driver made without saying of which chip.
    pub(super) fn of(root: &Root, address: PciAddress, nodes: &UnnamedNodes) -> Result<Self, NotReached> {
        let reach = match bound_to(root, address) {
            Binding::Bound(driver) if driver.is_vfio() => by_group(root, address)?,
            Binding::Bound(driver) => class_node(root, address)
                .or_else(|| nodes.of(address))
                .map(Self::Accel)
                .ok_or_else(|| NotReached::OtherDriver(driver.to_string()))?,
            Binding::Releasing(driver) => return Err(NotReached::Releasing(driver.to_string())),
            Binding::Unbound => return Err(NotReached::NoDriver),
        };
        // A chip whose node is gone is as good as gone.
        reach.missing(root).map_or(Ok(reach), |missing| Err(NotReached::NoNode(missing)))
    }
}

/// Always from the function to its group: not every group below `/dev/vfio` is a TPU's.
fn by_group(root: &Root, address: PciAddress) -> Result<Reach, NotReached> {
    let group = group_of(root, address).ok_or(NotReached::NoGroup)?;
    // Who is given the group is given all that is in it.
    match group.members.iter().find(|member| member.address != address && !member.bridge) {
        Some(other) => Err(NotReached::SharedGroup { group: group.number, with: other.address }),
        None => Ok(Reach::Vfio(group.number)),
    }
}

/// The `<n>` of `accel/accel<n>` below a function whose driver registers with the kernel's class of accelerators.
fn class_node(root: &Root, address: PciAddress) -> Option<u32> {
    let class = root.seen_by_agent(&format!("/sys/bus/pci/devices/{address}/accel"));
    fs::read_dir(class).ok()?.flatten().find_map(|entry| number(entry.file_name().to_str()?))
}

fn number(name: &str) -> Option<u32> {
    name.strip_prefix("accel")?.parse().ok()
}

/// Nodes of a driver that does not say which chip they are of, as Google's drivers for v2 to v4 do: numbered as the chips
/// are on the bus. Where there are more or fewer than chips, nobody knows. Nodes that the kernel's class of accelerators
/// knows are somebody's who says so, maybe another vendor's.
pub(super) struct UnnamedNodes {
    chips: Vec<PciAddress>,
    nodes: Vec<u32>,
}

impl UnnamedNodes {
    /// `chips` are all of the host's, in their order.
    pub(super) fn find(root: &Root, chips: impl Iterator<Item = PciAddress>) -> Self {
        let numbers = |directory: &str| -> BTreeSet<u32> {
            let listed = fs::read_dir(root.seen_by_agent(directory)).into_iter().flatten().flatten();
            listed.filter_map(|entry| number(entry.file_name().to_str()?)).collect()
        };
        let unnamed = numbers("/dev").difference(&numbers("/sys/class/accel")).copied().collect();
        Self { chips: chips.collect(), nodes: unnamed }
    }

    fn of(&self, chip: PciAddress) -> Option<u32> {
        let position = self.chips.iter().position(|known| *known == chip)?;
        (self.nodes.len() == self.chips.len()).then(|| self.nodes[position])
    }
}

/// Why a chip that is there cannot be used, in words.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotReached {
    NoDriver,
    OtherDriver(String),
    Releasing(String),
    NoGroup,
    SharedGroup { group: u32, with: PciAddress },
    NoNode(MissingNode),
}

impl fmt::Display for NotReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDriver => f.write_str("no driver has it; bind it to vfio-pci, or load its driver"),
            Self::OtherDriver(driver) => write!(f, "{driver} has it and makes no /dev/accel for it"),
            Self::Releasing(driver) => {
                write!(f, "{driver} is letting go of it; bind it to vfio-pci, or load its driver")
            }
            Self::NoGroup => f.write_str("VFIO has it without an IOMMU group; turn the IOMMU on"),
            Self::SharedGroup { group, with } => {
                write!(f, "its IOMMU group {group} is also that of {with}, so it cannot be handed out alone")
            }
            Self::NoNode(missing) => missing.fmt(f),
        }
    }
}
