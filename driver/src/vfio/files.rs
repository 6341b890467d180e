//! The kernel's files about a PCI function, and what they say. None of this waits, but for `driver_override`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tessera_vocabulary::PciAddress;

use super::{Binding, IommuGroup, KernelDriver, Member};
use crate::Root;

pub(super) const DRIVERS_PROBE: &str = "/sys/bus/pci/drivers_probe";

/// Class 0x0604: a bridge to another PCI bus.
const BRIDGE: &str = "0x0604";

pub(super) fn function(root: &Root, address: PciAddress) -> PathBuf {
    root.seen_by_agent(&format!("/sys/bus/pci/devices/{address}"))
}

pub(super) fn driver_override(root: &Root, address: PciAddress) -> PathBuf {
    function(root, address).join("driver_override")
}

/// `bind` or `unbind` of a driver.
pub(super) fn of_driver(root: &Root, driver: &KernelDriver, file: &str) -> PathBuf {
    root.seen_by_agent(&format!("/sys/bus/pci/drivers/{driver}/{file}"))
}

/// One write: the kernel takes each for a whole command.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::File::options().write(true).open(path)?.write_all(text.as_bytes())
}

/// Who has the function. While a driver lets go, its link is gone and `uevent` still names it.
pub(crate) fn binding(root: &Root, address: PciAddress) -> Binding {
    let directory = function(root, address);
    if let Some(driver) = link_name(&directory.join("driver")).and_then(|name| name.parse().ok()) {
        return Binding::Bound(driver);
    }
    let uevent = fs::read_to_string(directory.join("uevent")).unwrap_or_default();
    match uevent.lines().find_map(|line| line.strip_prefix("DRIVER=")?.parse().ok()) {
        Some(driver) => Binding::Releasing(driver),
        None => Binding::Unbound,
    }
}

pub(crate) fn group(root: &Root, address: PciAddress) -> Option<IommuGroup> {
    let link = function(root, address).join("iommu_group");
    let number = link_name(&link)?.parse().ok()?;
    let mut members: Vec<Member> = fs::read_dir(link.join("devices"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let address = entry.file_name().to_str()?.parse().ok()?;
            let driver = match binding(root, address) {
                Binding::Bound(driver) | Binding::Releasing(driver) => Some(driver),
                Binding::Unbound => None,
            };
            Some(Member { address, driver, bridge: line(root, address, "class").starts_with(BRIDGE) })
        })
        .collect();
    members.sort_by_key(|member| member.address);
    Some(IommuGroup { number, members })
}

/// The first line of an attribute; empty where there is none.
pub(super) fn line(root: &Root, address: PciAddress, attribute: &str) -> String {
    let text = fs::read_to_string(function(root, address).join(attribute)).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

/// The number of the function as a VFIO device.
pub(super) fn vfio_device(root: &Root, address: PciAddress) -> Option<u32> {
    let devices = fs::read_dir(function(root, address).join("vfio-dev")).ok()?;
    devices.flatten().find_map(|entry| entry.file_name().to_str()?.strip_prefix("vfio")?.parse().ok())
}

/// Whether an IOMMU is on: without one, the kernel makes no groups.
pub(super) fn has_iommu(root: &Root) -> bool {
    fs::read_dir(root.seen_by_agent("/sys/kernel/iommu_groups")).is_ok_and(|mut groups| groups.next().is_some())
}

/// The nodes by which sysfs says that a process can hold the function, whatever class they are of (drm, accel).
pub(super) fn class_nodes(root: &Root, address: PciAddress) -> Vec<String> {
    let directory = function(root, address);
    ["drm", "accel"]
        .iter()
        .flat_map(|class| fs::read_dir(directory.join(class)).into_iter().flatten().flatten())
        .filter_map(|entry| {
            let uevent = fs::read_to_string(entry.path().join("uevent")).ok()?;
            Some(format!("/dev/{}", uevent.lines().find_map(|line| line.strip_prefix("DEVNAME="))?))
        })
        .collect()
}

fn link_name(link: &Path) -> Option<String> {
    Some(fs::read_link(link).ok()?.file_name()?.to_str()?.to_owned())
}
