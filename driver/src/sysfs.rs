//! What the kernel tells about PCI devices under `/sys/bus/pci/devices`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};

use tessera_vocabulary::PciAddress;

use crate::{DiscoveryError, Locality, Root};

const PCI_DEVICES: &str = "/sys/bus/pci/devices";

/// The devices of a vendor whose class begins with `class_prefix`, such as `0x03` for displays.
pub(crate) fn devices(root: &Root, vendor: u16, class_prefix: &str) -> Result<BTreeSet<PciAddress>, DiscoveryError> {
    let mut devices = functions(root, vendor)?;
    devices.retain(|address| line(root, *address, "class").starts_with(class_prefix));
    Ok(devices)
}

/// All functions of a vendor. None where there is no PCI bus: that is no fault. A bus that cannot be read is one: what is
/// on it must not be taken for gone.
pub(crate) fn functions(root: &Root, vendor: u16) -> Result<BTreeSet<PciAddress>, DiscoveryError> {
    let path = root.seen_by_agent(PCI_DEVICES);
    let unreadable = |source| DiscoveryError::Unreadable { path: path.clone(), source };
    let entries = match fs::read_dir(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        entries => entries.map_err(unreadable)?,
    };
    let mut found = BTreeSet::new();
    for entry in entries {
        let Some(address) = entry.map_err(unreadable)?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if number(root, address, "vendor") == Some(vendor) {
            found.insert(address);
        }
    }
    Ok(found)
}

/// The first line of an attribute; empty where it cannot be read.
pub(crate) fn line(root: &Root, address: PciAddress, attribute: &str) -> String {
    let path = root.seen_by_agent(&format!("{PCI_DEVICES}/{address}/{attribute}"));
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// One of the four numbers of a function, such as `device`. `None` where it cannot be read, or is no such number.
pub(crate) fn number(root: &Root, address: PciAddress, attribute: &str) -> Option<u16> {
    u16::from_str_radix(line(root, address, attribute).strip_prefix("0x")?, 16).ok()
}

/// The class of a function, as `0x030200`. `None` where it cannot be read, or is none.
pub(crate) fn class(root: &Root, address: PciAddress) -> Option<u32> {
    u32::from_str_radix(line(root, address, "class").strip_prefix("0x")?, 16).ok()
}

/// The beginning of a function's configuration space: 256 bytes for who has all rights, 64 for others. Empty where it cannot
/// be read.
pub(crate) fn configuration(root: &Root, address: PciAddress) -> Vec<u8> {
    let mut bytes = Vec::new();
    let file = fs::File::open(root.seen_by_agent(&format!("{PCI_DEVICES}/{address}/config")));
    // A PCIe function has 4 KiB of it, and what is beyond the first 256 bytes has other capabilities.
    let read = file.and_then(|file| file.take(256).read_to_end(&mut bytes));
    read.map_or_else(|_| Vec::new(), |_| bytes)
}

/// What is near a PCI device. What cannot be read is unknown.
pub(crate) fn locality(root: &Root, address: PciAddress) -> Locality {
    let device = root.seen_by_agent(&format!("{PCI_DEVICES}/{address}"));
    // The real path is /sys/devices/pci0000:3a/0000:3a:01.0/…/0000:3b:00.0. On some systems (VMD, ARM) more comes
    // before the root complex, so it is the first component of that form that counts.
    let path = fs::canonicalize(&device).unwrap_or_default();
    let mut below = path.components().filter_map(|part| part.as_os_str().to_str());
    let pcie_root = below.find(|part| is_root_complex(part)).map(str::to_owned);
    // What is left of the path. Something that is no PCI device may stand between two (a VMD's own root complex).
    let mut bridges: Vec<PciAddress> = below.filter_map(|part| part.parse().ok()).collect();
    bridges.pop_if(|last| *last == address);
    // -1 is the kernel's "unknown", and does not parse.
    let numa_node = fs::read_to_string(device.join("numa_node")).ok().and_then(|text| text.trim().parse().ok());
    Locality { pcie_root, numa_node, bridges }
}

/// `pci<domain>:<bus>`, in hexadecimal.
fn is_root_complex(component: &str) -> bool {
    let hex = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    component
        .strip_prefix("pci")
        .and_then(|rest| rest.split_once(':'))
        .is_some_and(|(domain, bus)| domain.len() >= 4 && hex(domain) && bus.len() == 2 && hex(bus))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn device(root: &Path, real: &str, files: &[(&str, &str)]) {
        let directory = root.join("sys/devices").join(real);
        fs::create_dir_all(&directory).unwrap();
        for (name, content) in files {
            fs::write(directory.join(name), content).unwrap();
        }
        let bus = root.join("sys/bus/pci/devices");
        fs::create_dir_all(&bus).unwrap();
        symlink(format!("../../../devices/{real}"), bus.join(directory.file_name().unwrap())).unwrap();
    }

    #[test]
    fn locality_is_what_the_kernel_tells() {
        let tree = tempfile::tempdir().unwrap();
        let root = Root::new(tree.path(), "/");
        device(tree.path(), "pci0000:3a/0000:3a:01.0/0000:3b:00.0", &[("numa_node", "1\n")]);
        device(tree.path(), "platform/pci0002:00/0002:01:00.0", &[("numa_node", "-1\n")]);
        device(tree.path(), "virtual/0003:01:00.0", &[]);
        device(tree.path(), "pci0005:00/0005:00:01.1/0005:01:00.0/0005:02:10.0/0005:03:00.0", &[("numa_node", "0\n")]);
        let cases = [
            ("0000:3b:00.0", Some("pci0000:3a"), Some(1), "0000:3a:01.0"),
            ("0002:01:00.0", Some("pci0002:00"), None, ""),
            ("0003:01:00.0", None, None, ""),
            ("0004:01:00.0", None, None, ""),
            ("0005:03:00.0", Some("pci0005:00"), Some(0), "0005:00:01.1 0005:01:00.0 0005:02:10.0"),
        ];
        for (address, pcie_root, numa_node, bridges) in cases {
            let found = locality(&root, address.parse().unwrap());
            let bridges = bridges.split_whitespace().map(|bridge| bridge.parse().unwrap()).collect();
            assert_eq!(found, Locality { pcie_root: pcie_root.map(str::to_owned), numa_node, bridges }, "{address}");
        }
        // A switch has two ports on the way; a root port alone is none.
        let switch = |address: &str| locality(&root, address.parse().unwrap()).pcie_switch();
        assert_eq!(switch("0005:03:00.0"), "0005:01:00.0".parse().ok());
        assert_eq!(switch("0000:3b:00.0"), None);
    }

    #[test]
    fn only_the_vendors_devices_of_the_class_are_found() {
        let tree = tempfile::tempdir().unwrap();
        let root = Root::new(tree.path(), "/");
        assert!(devices(&root, 0x10de, "0x03").unwrap().is_empty(), "no PCI bus is no fault");
        device(tree.path(), "pci0000:00/0000:01:00.0", &[("vendor", "0x10de\n"), ("class", "0x030200\n")]);
        device(tree.path(), "pci0000:00/0000:02:00.0", &[("vendor", "0x10de\n"), ("class", "0x068000\n")]);
        device(tree.path(), "pci0000:00/0000:03:00.0", &[("vendor", "0x1002\n"), ("class", "0x030200\n")]);
        device(tree.path(), "pci0000:00/0000:04:00.0", &[]);
        let found = devices(&root, 0x10de, "0x03").unwrap();
        assert_eq!(found.into_iter().map(|address| address.to_string()).collect::<Vec<_>>(), ["0000:01:00.0"]);
    }
    #[test]
    fn a_bus_that_cannot_be_read_is_not_an_empty_one() {
        let tree = tempfile::tempdir().unwrap();
        let bus = tree.path().join("sys/bus/pci");
        fs::create_dir_all(&bus).unwrap();
        fs::write(bus.join("devices"), "no directory").unwrap();
        let error = functions(&Root::new(tree.path(), "/"), 0x10de).unwrap_err().to_string();
        assert!(error.contains("sys/bus/pci/devices cannot be read"), "{error}");
    }
}
