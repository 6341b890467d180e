//! How a machine's kernel is set up: its drivers, its IOMMU and what sits on the bus beside the accelerators.

use std::collections::BTreeMap;

use simulated_hardware::PciAddress;

use crate::matching::{Id, Identity};

/// The release of the simulated kernel, as `uname -r` would give it.
pub const RELEASE: &str = "6.8.0-simulated";

/// How a machine's kernel is set up. The default is that of a server with an IOMMU and VFIO with both its interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// Whether the IOMMU is on. Without it there are no groups, and VFIO drivers refuse every function.
    pub iommu: bool,
    /// Whether VFIO shows groups: `/dev/vfio/vfio` and `/dev/vfio/<group>` (`CONFIG_VFIO_GROUP`).
    pub legacy: bool,
    /// Whether VFIO shows devices: `/dev/iommu` and `/dev/vfio/devices/vfio<n>` (`CONFIG_VFIO_DEVICE_CDEV`).
    pub iommufd: bool,
    /// The drivers, loaded or not.
    pub drivers: Vec<Driver>,
    /// What sits on the bus besides the machine's own functions.
    pub functions: Vec<Added>,
    /// Functions that share an IOMMU group, each with the first function of that group. The rest has one group a slot.
    pub grouped_with: BTreeMap<PciAddress, PciAddress>,
}

impl Default for Setup {
    fn default() -> Self {
        let row = |vendor, class| Id { vendor, device: None, class: Some(class), override_only: false };
        Self {
            iommu: true,
            legacy: true,
            iommufd: true,
            drivers: vec![
                Driver::new("nvidia", vec![row(Some(0x10de), 0x03ff)]),
                Driver::new("pcieport", vec![row(None, 0x0604)]),
                Driver::new("snd_hda_intel", vec![row(None, 0x0403)]),
                Driver::new("nvme", vec![row(None, 0x0108)]),
                Driver { vfio: true, module: "vfio_pci".to_owned(), ..Driver::new("vfio-pci", vec![Id::OVERRIDE]) },
            ],
            functions: Vec::new(),
            grouped_with: BTreeMap::new(),
        }
    }
}

impl Setup {
    /// The driver of this name, to change it.
    pub fn driver(&mut self, name: &str) -> Option<&mut Driver> {
        self.drivers.iter_mut().find(|driver| driver.name == name)
    }
}

/// A PCI driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    /// Its name on the bus, `vfio-pci`.
    pub name: String,
    /// The module that it comes from, `vfio_pci`.
    pub module: String,
    /// The functions that it takes.
    pub ids: Vec<Id>,
    /// Whether it hands functions to user space.
    pub vfio: bool,
    /// Whether its module is loaded.
    pub loaded: bool,
    /// What it does when it is to let go of a function that a process has open.
    pub while_held: WhileHeld,
}

impl Driver {
    /// A loaded driver of a module of the same name.
    pub fn new(name: &str, ids: Vec<Id>) -> Self {
        Self {
            name: name.to_owned(),
            module: name.to_owned(),
            ids,
            vfio: false,
            loaded: true,
            while_held: WhileHeld::Waits,
        }
    }
}

/// What a driver does when it is to let go of a function that a process has open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhileHeld {
    /// The write to `unbind` does not return before the process has closed it: nvidia (`nv_pci_remove` loops on the
    /// usage count) and vfio-pci (`vfio_unregister_group_dev`).
    Waits,
    /// The write fails with EBUSY and nothing changes.
    Refuses,
}

/// A function that the machine's profile does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// Where it sits.
    pub address: PciAddress,
    /// A function of the machine in whose directory of sysfs, below the same bridge, it is.
    pub beside: PciAddress,
    /// What it is.
    pub identity: Identity,
    /// The driver that has it when the machine is up.
    pub driver: Option<String>,
    /// The SR-IOV virtual functions that are enabled; `None` for a function without SR-IOV.
    pub virtual_functions: Option<u32>,
}

impl Added {
    /// The HDMI audio of a GPU, function 1 of its slot.
    pub fn audio_of(gpu: PciAddress) -> Self {
        Self {
            address: PciAddress { function: 1, ..gpu },
            beside: gpu,
            identity: Identity {
                vendor: 0x10de,
                device: 0x10f0,
                subsystem_vendor: 0x10de,
                subsystem_device: 0x1467,
                class: 0x040300,
            },
            driver: Some("snd_hda_intel".to_owned()),
            virtual_functions: None,
        }
    }

    /// An NVMe disk.
    pub fn disk(address: PciAddress, beside: PciAddress) -> Self {
        Self {
            address,
            beside,
            identity: Identity {
                vendor: 0x144d,
                device: 0xa808,
                subsystem_vendor: 0x144d,
                subsystem_device: 0xa801,
                class: 0x010802,
            },
            driver: Some("nvme".to_owned()),
            virtual_functions: None,
        }
    }

    /// A PCIe bridge.
    pub fn bridge(address: PciAddress, beside: PciAddress) -> Self {
        Self {
            address,
            beside,
            identity: Identity {
                vendor: 0x1000,
                device: 0xc030,
                subsystem_vendor: 0x1000,
                subsystem_device: 0x1003,
                class: 0x060400,
            },
            driver: Some("pcieport".to_owned()),
            virtual_functions: None,
        }
    }
}
