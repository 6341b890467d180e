//! What sits on the PCI bus besides GPUs: TPU chips, and functions that are no accelerators.

use serde::{Deserialize, Serialize};

use crate::model::PciIdentity;
use crate::pci::{PciAddress, PciRoot};

/// A TPU chip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tpu {
    /// Its generation.
    pub generation: TpuGeneration,
    /// Where it sits.
    pub pci: PciAddress,
    /// The root complex it hangs below.
    pub root: PciRoot,
    /// The bridges between the root and the chip, root port first.
    #[serde(default)]
    pub bridges: Vec<PciAddress>,
    /// NUMA node of the CPUs next to it; -1 where the host does not say.
    pub numa_node: i32,
    /// The number of its node: that of its IOMMU group in `/dev/vfio` while VFIO has it, and of `/dev/accel` otherwise.
    pub number: u32,
    /// The kernel driver that has it; absent while none has.
    #[serde(default)]
    pub driver: Option<String>,
    /// Whether its driver, if that is not VFIO's, registers with the kernel's class of accelerators. The node is there in
    /// any case.
    #[serde(default = "yes")]
    pub class: bool,
    /// In its slot. An absent one has no files.
    #[serde(default = "yes")]
    pub present: bool,
}

fn yes() -> bool {
    true
}

/// The generations of TPUs, with the PCI ids that Google gave them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TpuGeneration {
    /// 0x0027, subsystem 0x004e
    V2,
    /// 0x0027, subsystem 0x004f
    V3,
    /// 0x005e
    V4,
    /// 0x0062
    V5p,
    /// 0x0063
    V5e,
    /// 0x006f
    V6e,
    /// 0x0076
    V7x,
}

/// The driver that hands a function to user space.
pub(crate) const VFIO: &str = "vfio-pci";

impl Tpu {
    /// Whether user space reaches it by VFIO.
    pub fn is_vfio(&self) -> bool {
        self.driver.as_deref() == Some(VFIO)
    }

    /// Its PCI ids. The class (a processing accelerator), the revision and the link are plausible, the rest is true.
    pub fn identity(&self) -> PciIdentity {
        let (device, subsystem_device) = match self.generation {
            TpuGeneration::V2 => (0x0027, 0x004e),
            TpuGeneration::V3 => (0x0027, 0x004f),
            TpuGeneration::V4 => (0x005e, 0x005e),
            TpuGeneration::V5p => (0x0062, 0x0062),
            TpuGeneration::V5e => (0x0063, 0x0063),
            TpuGeneration::V6e => (0x006f, 0x006f),
            TpuGeneration::V7x => (0x0076, 0x0076),
        };
        PciIdentity {
            vendor: GOOGLE,
            device,
            subsystem_vendor: GOOGLE,
            subsystem_device,
            class: 0x12_0000,
            revision: 1,
            link_generation: 4,
            link_width: 16,
        }
    }
}

/// Google's vendor id.
const GOOGLE: u16 = 0x1ae0;

/// A function that is no accelerator of the machine's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    /// What it is and how it is linked.
    pub identity: PciIdentity,
    /// Where it sits.
    pub pci: PciAddress,
    /// The root complex it hangs below.
    pub root: PciRoot,
    /// The kernel driver that has it.
    pub driver: String,
    /// Its IOMMU group.
    #[serde(default)]
    pub group: Option<u32>,
}

impl Function {
    /// Its node, if VFIO has it.
    pub(crate) fn vfio_group(&self) -> Option<u32> {
        self.group.filter(|_| self.driver == VFIO)
    }
}
