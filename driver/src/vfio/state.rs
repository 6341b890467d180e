use std::fs;

use tessera_vocabulary::PciAddress;

use super::{Interface, IommuGroup, KernelDriver, VfioDriver, files, modules};
use crate::Root;

/// What the kernel says about a PCI function that is, was or may be handed to user space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VfioState {
    /// Where it sits.
    pub address: PciAddress,
    /// Who has it.
    pub binding: Binding,
    /// The only driver that may take it, by `driver_override`. As it stands there: others may have written it.
    pub driver_override: Option<String>,
    /// Whether an IOMMU is on. Without one nothing can be handed out safely.
    pub iommu: bool,
    /// Its IOMMU group; `None` also for a function that the IOMMU does not guard.
    pub group: Option<IommuGroup>,
    /// Its number as a VFIO device (`vfio-dev/vfio<n>`), while a VFIO driver has it and the kernel has iommufd's nodes.
    pub vfio_device: Option<u32>,
    /// The VFIO driver made for it; `None` where the kernel has no VFIO for PCI.
    pub vfio_driver: Option<VfioDriver>,
    /// Its SR-IOV virtual functions that are enabled.
    pub virtual_functions: u32,
    /// Whether `/dev/vfio/<group>` and `/dev/vfio/vfio` are there.
    has_group_nodes: bool,
    /// Whether `/dev/vfio/devices/vfio<n>` and `/dev/iommu` are there.
    has_device_nodes: bool,
}

/// Who has a PCI function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Nobody.
    Unbound,
    /// A driver.
    Bound(KernelDriver),
    /// A driver that has been told to let go and has not done so: it waits for those who have the device open.
    Releasing(KernelDriver),
}

impl VfioState {
    /// `None` if there is no such function. Waits while a driver takes or lets go of the function.
    pub(super) fn read(root: &Root, address: PciAddress) -> Option<Self> {
        let directory = files::function(root, address);
        if !directory.exists() {
            return None;
        }
        let driver_override = fs::read_to_string(files::driver_override(root, address)).unwrap_or_default();
        let group = files::group(root, address);
        let vfio_device = files::vfio_device(root, address);
        let exist = |interface: Interface| {
            let nodes = [interface.node(), interface.shared_node().to_owned()];
            nodes.iter().all(|node| root.seen_by_agent(node).exists())
        };
        Some(Self {
            address,
            binding: files::binding(root, address),
            // "(null)" is how the kernel prints none.
            driver_override: Some(driver_override.trim_end().to_owned())
                .filter(|name| !name.is_empty() && name != "(null)"),
            iommu: files::has_iommu(root),
            has_group_nodes: group.as_ref().is_some_and(|group| exist(Interface::Legacy { group: group.number })),
            group,
            has_device_nodes: vfio_device.is_some_and(|device| exist(Interface::Iommufd { device })),
            vfio_device,
            vfio_driver: modules::vfio_driver(root, &modalias(root, address)),
            virtual_functions: files::line(root, address, "sriov_numvfs").parse().unwrap_or_default(),
        })
    }

    /// Whether a VFIO driver has it.
    pub fn is_passed_through(&self) -> bool {
        matches!(&self.binding, Binding::Bound(driver) if driver.is_vfio())
    }

    /// The way to it by its group, if the kernel offers it now.
    pub fn legacy(&self) -> Option<Interface> {
        let group = self.group.as_ref().filter(|_| self.is_passed_through() && self.has_group_nodes)?;
        Some(Interface::Legacy { group: group.number })
    }

    /// The way to it by iommufd, if the kernel offers it now.
    pub fn iommufd(&self) -> Option<Interface> {
        let device = self.vfio_device.filter(|_| self.is_passed_through() && self.has_device_nodes)?;
        Some(Interface::Iommufd { device })
    }
}

/// What the function says of itself, in the form of `modules.alias`.
fn modalias(root: &Root, address: PciAddress) -> String {
    files::line(root, address, "modalias")
}
