//! The PCI functions of a machine, as the kernel knows them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use simulated_hardware::PciAddress;

use crate::matching::Identity;
use crate::setup::Setup;

/// A PCI function and what the kernel has done with it.
#[derive(Debug, Clone)]
pub(crate) struct Function {
    /// Its directory below `sys`: `devices/pci0000:15/0000:15:01.0/0000:1b:00.0`.
    pub(crate) directory: String,
    /// What it is.
    pub(crate) identity: Identity,
    /// Whether the machine's profile knows it, so that its other files are rendered.
    pub(crate) rendered: bool,
    /// Its enabled SR-IOV virtual functions; `None` for a function without SR-IOV.
    pub(crate) virtual_functions: Option<u32>,
    /// Its IOMMU group.
    pub(crate) group: Option<u32>,
    /// `driver_override`.
    pub(crate) driver_override: Option<String>,
    /// `dev->driver`: set before a driver's probe is called and cleared after its remove has returned.
    pub(crate) driver: Option<String>,
    /// Whether the `driver` links are there: they go before the driver's remove is called.
    pub(crate) linked: bool,
    /// Its number as a VFIO device.
    pub(crate) vfio_device: Option<u32>,
    /// The device lock: somebody is binding, unbinding or looking at the override.
    pub(crate) locked: bool,
}

impl Function {
    fn new(directory: String, identity: Identity, driver: Option<String>) -> Self {
        Self {
            directory,
            identity,
            rendered: true,
            virtual_functions: None,
            group: None,
            driver_override: None,
            linked: driver.is_some(),
            driver,
            vfio_device: None,
            locked: false,
        }
    }
}

/// The functions that the rendered sysfs and the setup give the machine, as they are after its boot.
pub(crate) fn on_the_bus(rendered: &Path, setup: &Setup) -> BTreeMap<PciAddress, Function> {
    let mut functions: BTreeMap<_, _> = fs::read_dir(rendered.join("bus/pci/devices"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let address = entry.file_name().to_str()?.parse().ok()?;
            Some((address, read(rendered, &entry.path())?))
        })
        .collect();
    for added in &setup.functions {
        let Some(parent) = functions.get(&added.beside).and_then(|beside| beside.directory.rsplit_once('/')) else {
            continue;
        };
        let directory = format!("{}/{}", parent.0, added.address);
        let function = Function::new(directory, added.identity, added.driver.clone());
        let virtual_functions = added.virtual_functions;
        functions.insert(added.address, Function { rendered: false, virtual_functions, ..function });
    }
    functions
}

fn read(rendered: &Path, link: &Path) -> Option<Function> {
    let hexadecimal = |name: &str| {
        let text = fs::read_to_string(link.join(name)).ok()?;
        u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
    };
    let small = |name: &str| hexadecimal(name).and_then(|number| u16::try_from(number).ok());
    let identity = Identity {
        vendor: small("vendor")?,
        device: small("device")?,
        subsystem_vendor: small("subsystem_vendor").unwrap_or_default(),
        subsystem_device: small("subsystem_device").unwrap_or_default(),
        class: hexadecimal("class")?,
    };
    let target = fs::read_link(link).ok()?;
    let name = |link: &Path| Some(fs::read_link(link).ok()?.file_name()?.to_str()?.to_owned());
    let driver = name(&link.join("driver"));
    // Where the profile gives it one, that is its group.
    let group = name(&link.join("iommu_group")).and_then(|group| group.parse().ok());
    let function = Function { group, ..Function::new(resolve("bus/pci/devices", &target)?, identity, driver) };
    // What points out of the tree is no function of this machine.
    rendered.join(&function.directory).is_dir().then_some(function)
}

/// Where a relative link in a directory leads, below `sys`.
fn resolve(directory: &str, target: &Path) -> Option<String> {
    let mut path = PathBuf::from(directory);
    for component in target.components() {
        match component {
            Component::ParentDir => {
                path.pop().then_some(())?;
            }
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    Some(path.to_str()?.to_owned())
}

/// Gives each function its IOMMU group: that of the function it is grouped with, else one for each slot.
pub(crate) fn number_groups(functions: &mut BTreeMap<PciAddress, Function>, setup: &Setup) {
    let first = |address: &PciAddress| {
        let of = setup.grouped_with.get(address).copied().unwrap_or(*address);
        PciAddress { function: 0, ..of }
    };
    let mut known: BTreeMap<PciAddress, u32> =
        functions.iter().filter_map(|(address, function)| Some((first(address), function.group?))).collect();
    for (address, function) in functions.iter_mut().filter(|(_, function)| setup.iommu && function.group.is_none()) {
        let next = known.values().max().map_or(0, |number| number + 1);
        function.group = Some(*known.entry(first(address)).or_insert(next));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_below_sys() {
        let link = Path::new("../../../devices/pci0000:15/0000:15:01.0/0000:1b:00.0");
        assert_eq!(resolve("bus/pci/devices", link).as_deref(), Some("devices/pci0000:15/0000:15:01.0/0000:1b:00.0"));
        assert_eq!(resolve("bus", Path::new("../../x")), None);
    }

    #[test]
    fn a_group_for_each_slot_unless_told_otherwise() {
        let identity =
            Identity { vendor: 0x10de, device: 1, subsystem_vendor: 0, subsystem_device: 0, class: 0x030200 };
        let address = |text: &str| text.parse::<PciAddress>().unwrap();
        let names = ["0000:01:00.0", "0000:01:00.1", "0000:02:00.0", "0000:03:00.0"];
        let mut functions: BTreeMap<_, _> =
            names.map(|name| (address(name), Function::new(String::new(), identity, None))).into();
        let mut setup = Setup::default();
        setup.grouped_with.insert(address(names[3]), address(names[0]));
        number_groups(&mut functions, &setup);
        let groups = |functions: &BTreeMap<_, Function>| functions.values().map(|one| one.group).collect::<Vec<_>>();
        assert_eq!(groups(&functions), [Some(0), Some(0), Some(1), Some(0)]);

        // Who comes later takes no number away.
        functions.remove(&address(names[0]));
        functions.insert(address("0000:00:01.0"), Function::new(String::new(), identity, None));
        number_groups(&mut functions, &setup);
        assert_eq!(groups(&functions), [Some(2), Some(0), Some(1), Some(0)]);
    }
}
