//! A GPU model: what every board of one part number has in common. One file per model in `models/`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What every board of one part number has in common.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Product name as `nvmlDeviceGetName` gives it.
    pub name: String,
    /// Microarchitecture.
    pub architecture: Architecture,
    /// Brand as `nvmlDeviceGetBrand` gives it.
    pub brand: Brand,
    /// CUDA compute capability.
    pub compute_capability: ComputeCapability,
    /// CUDA cores.
    pub cores: u32,
    /// PCI ids and class.
    pub pci: PciIdentity,
    /// Frame buffer and BAR1.
    pub memory: Memory,
    /// Board part number as `nvmlDeviceGetBoardPartNumber` gives it.
    pub board_part_number: String,
    /// VBIOS version.
    pub vbios: String,
    /// NVLinks of one GPU; 0 for parts without.
    #[serde(default)]
    pub nvlinks: u32,
    /// Whether memory has ECC that is on, as data-centre parts ship.
    pub ecc: bool,
    /// How the GPU addresses system memory, where the driver says so.
    #[serde(default)]
    pub addressing_mode: AddressingMode,
    /// The MIG profiles; absent on parts that cannot be partitioned.
    #[serde(default)]
    pub mig: Option<MigTable>,
}

/// Microarchitecture, with NVML's number for it (`NVML_DEVICE_ARCH_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// 6
    Turing,
    /// 7
    Ampere,
    /// 8
    Ada,
    /// 9
    Hopper,
    /// 10
    Blackwell,
}

/// Brand, with NVML's number for it (`NVML_BRAND_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Brand {
    /// 2
    Tesla,
    /// 14
    Nvidia,
}

/// How the GPU addresses system memory (`NVML_DEVICE_ADDRESSING_MODE_*`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressingMode {
    /// 0: nothing special.
    #[default]
    None,
    /// 1: heterogeneous memory management, the open kernel module on recent kernels.
    Hmm,
    /// 2: address translation services, Grace hosts.
    Ats,
}

/// CUDA compute capability, written `9.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ComputeCapability {
    /// Before the dot.
    pub major: u32,
    /// After the dot.
    pub minor: u32,
}

impl TryFrom<String> for ComputeCapability {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parts = text.split_once('.').map(|(major, minor)| (major.parse(), minor.parse()));
        match parts {
            Some((Ok(major), Ok(minor))) => Ok(Self { major, minor }),
            _ => Err(format!("{text:?} is no compute capability; allowed: <major>.<minor>, like 9.0")),
        }
    }
}

impl From<ComputeCapability> for String {
    fn from(capability: ComputeCapability) -> Self {
        capability.to_string()
    }
}

impl fmt::Display for ComputeCapability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// PCI ids, class and link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PciIdentity {
    /// Vendor id; 0x10de is NVIDIA.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Vendor of the board.
    pub subsystem_vendor: u16,
    /// The board's id.
    pub subsystem_device: u16,
    /// Class code of 24 bits; 0x030200 is a 3D controller.
    pub class: u32,
    /// Revision.
    pub revision: u8,
    /// PCIe generation of the link, 1 to 6.
    pub link_generation: u32,
    /// Lanes of the link.
    pub link_width: u32,
}

/// Memory sizes, all in MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Frame buffer as NVML reports the total.
    pub total_mib: u64,
    /// What the driver and firmware keep: `reserved` of the second memory call, `used` of the first one when idle.
    pub reserved_mib: u64,
    /// BAR1 aperture.
    pub bar1_mib: u64,
    /// Bus width in bits.
    pub bus_width: u32,
}

/// How a GPU can be cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigTable {
    /// Most MIG devices at once: 7, or 4 on the parts with four slices.
    pub max_devices: u32,
    /// Memory slices that placements count in: 8 or 4.
    pub memory_slices: u32,
    /// The rows, in the order of their query index.
    pub profiles: Vec<GpuInstanceProfile>,
}

/// One GPU instance profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuInstanceProfile {
    /// What a query takes: `NVML_GPU_INSTANCE_PROFILE_*`.
    pub index: u32,
    /// What a query answers and a creation takes; `nvidia-smi mig -lgip` prints it.
    pub id: u32,
    /// Name without the leading `MIG `.
    pub name: String,
    /// Compute slices.
    pub slices: u32,
    /// Memory of one instance in MiB.
    pub memory_mib: u64,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Copy engines.
    pub copy_engines: u32,
    /// NVDEC engines.
    pub decoders: u32,
    /// NVENC engines.
    pub encoders: u32,
    /// JPEG engines.
    pub jpeg: u32,
    /// Optical flow engines.
    pub ofa: u32,
    /// Most instances of this profile at once.
    pub max: u32,
    /// First memory slices where an instance may start.
    pub starts: Vec<u32>,
    /// Memory slices that an instance takes.
    pub size: u32,
}
