use tessera_vocabulary::PciAddress;

use super::{Binding, Interface, files, modules};
use crate::Root;

/// What makes a PCI function one that can be handed to user space, as far as it is the same from look to look. Read
/// without waiting for anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passthrough {
    /// Its vendor's number.
    pub vendor_id: u16,
    /// The product's.
    pub device_id: u16,
    /// Whether a VFIO driver has it now.
    pub bound: bool,
    /// The ways to it that there are now; none while it is not bound.
    pub ways: Ways,
    /// Whether the kernel has iommufd.
    pub iommufd: bool,
}

/// By what user space reaches a function that VFIO has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ways {
    /// Its IOMMU group, `/dev/vfio/<group>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
    /// Its own number with iommufd, `/dev/vfio/devices/vfio<n>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<u32>,
}

impl Ways {
    /// By its group.
    pub fn legacy(self) -> Option<Interface> {
        self.group.map(|group| Interface::Legacy { group })
    }

    /// By iommufd.
    pub fn iommufd(self) -> Option<Interface> {
        self.device.map(|device| Interface::Iommufd { device })
    }
}

/// `None` for a function that cannot be handed out on this node: no IOMMU guards it, or the kernel has no VFIO driver.
pub(crate) fn passthrough(root: &Root, address: PciAddress) -> Option<Passthrough> {
    let group = files::group(root, address).filter(|_| files::has_iommu(root))?;
    let bound = is_bound(root, address);
    let driver = modules::vfio_driver(root, &files::line(root, address, "modalias"))?;
    if !bound && driver.driver.is_none() {
        return None;
    }
    let id = |file: &str| u16::from_str_radix(files::line(root, address, file).trim_start_matches("0x"), 16).ok();
    let device = files::vfio_device(root, address);
    Some(Passthrough {
        vendor_id: id("vendor")?,
        device_id: id("device")?,
        bound,
        ways: if bound { Ways { group: Some(group.number), device } } else { Ways::default() },
        iommufd: root.seen_by_agent("/dev/iommu").exists(),
    })
}

/// Whether a VFIO driver has the function.
pub(crate) fn is_bound(root: &Root, address: PciAddress) -> bool {
    matches!(files::binding(root, address), Binding::Bound(driver) if driver.is_vfio())
}
