//! The files of a PCI function that all have.

use super::tree::{Content, Entry};
use crate::model::PciIdentity;
use crate::pci::{PciAddress, PciRoot};

/// A PCI function as the kernel shows it.
pub(super) struct PciFunction<'a> {
    pub(super) pci: PciAddress,
    pub(super) root: &'a PciRoot,
    pub(super) bridges: &'a [PciAddress],
    pub(super) identity: &'a PciIdentity,
    pub(super) numa_node: i32,
    pub(super) local_cpus: &'a str,
    pub(super) driver: Option<&'a str>,
    pub(super) iommu_group: Option<u32>,
}

impl PciFunction<'_> {
    /// Its directory.
    pub(super) fn directory(&self) -> String {
        let bridges: String = self.bridges.iter().map(|bridge| format!("/{bridge}")).collect();
        format!("sys/devices/{}{bridges}/{}", self.root, self.pci)
    }

    pub(super) fn files(&self) -> Vec<Entry> {
        let (device, ids) = (self.directory(), self.identity);
        let speed = link_speed(ids.link_generation);
        let lines = [
            ("vendor", format!("{:#06x}", ids.vendor)),
            ("device", format!("{:#06x}", ids.device)),
            ("subsystem_vendor", format!("{:#06x}", ids.subsystem_vendor)),
            ("subsystem_device", format!("{:#06x}", ids.subsystem_device)),
            ("class", format!("{:#08x}", ids.class)),
            ("revision", format!("{:#04x}", ids.revision)),
            ("numa_node", self.numa_node.to_string()),
            ("local_cpulist", self.local_cpus.to_owned()),
            ("current_link_speed", speed.to_owned()),
            ("current_link_width", ids.link_width.to_string()),
            ("max_link_speed", speed.to_owned()),
            ("max_link_width", ids.link_width.to_string()),
        ];
        let mut files: Vec<Entry> =
            lines.into_iter().map(|(name, value)| Entry::line(format!("{device}/{name}"), value)).collect();
        files.push(Entry::new(format!("{device}/config"), Content::Bytes(configuration(ids))));
        files.push(Entry::new(format!("{device}/uevent"), Content::Text(self.uevent())));
        files.push(Entry::link_within(&format!("sys/bus/pci/devices/{}", self.pci), &device));
        if let Some(driver) = self.driver {
            let driver = format!("sys/bus/pci/drivers/{driver}");
            files.push(Entry::link_within(&format!("{device}/driver"), &driver));
            files.push(Entry::link_within(&format!("{driver}/{}", self.pci), &device));
        }
        if let Some(group) = self.iommu_group {
            let group = format!("sys/kernel/iommu_groups/{group}");
            files.push(Entry::link_within(&format!("{device}/iommu_group"), &group));
            files.push(Entry::link_within(&format!("{group}/devices/{}", self.pci), &device));
        }
        files
    }

    fn uevent(&self) -> String {
        let ids = self.identity;
        let driver = self.driver.map(|driver| format!("DRIVER={driver}\n")).unwrap_or_default();
        format!(
            "{driver}PCI_CLASS={:X}\nPCI_ID={:04X}:{:04X}\nPCI_SUBSYS_ID={:04X}:{:04X}\nPCI_SLOT_NAME={}\n",
            ids.class, ids.vendor, ids.device, ids.subsystem_vendor, ids.subsystem_device, self.pci
        )
    }
}

/// The first 256 bytes of the configuration space, as who has all rights reads them: a header, and no capabilities.
fn configuration(ids: &PciIdentity) -> Vec<u8> {
    let mut space = vec![0; 256];
    space[..2].copy_from_slice(&ids.vendor.to_le_bytes());
    space[2..4].copy_from_slice(&ids.device.to_le_bytes());
    // The revision, and the class in the three bytes above it.
    space[8..12].copy_from_slice(&(ids.class << 8 | u32::from(ids.revision)).to_le_bytes());
    space[0x2c..0x2e].copy_from_slice(&ids.subsystem_vendor.to_le_bytes());
    space[0x2e..0x30].copy_from_slice(&ids.subsystem_device.to_le_bytes());
    space
}

/// As the kernel words it (`pci_speed_string`).
fn link_speed(generation: u32) -> &'static str {
    match generation {
        1 => "2.5 GT/s PCIe",
        2 => "5.0 GT/s PCIe",
        3 => "8.0 GT/s PCIe",
        4 => "16.0 GT/s PCIe",
        5 => "32.0 GT/s PCIe",
        6 => "64.0 GT/s PCIe",
        _ => "Unknown",
    }
}
