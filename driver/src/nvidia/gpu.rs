use semver::Version;
use tessera_nvml::AddressingMode;

use super::VirtualGpu;

/// What the driver and the bus say about an NVIDIA GPU. All but `minor` is as lasting as the board and the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// The number of its device node, `/dev/nvidia<minor>`. May change when the driver is reloaded.
    pub minor: u32,
    /// "GPU-" and a UUID.
    pub uuid: String,
    /// The product, "NVIDIA H100 80GB HBM3".
    pub product_name: String,
    /// The brand, "Nvidia".
    pub brand: &'static str,
    /// The architecture, "Hopper".
    pub architecture: &'static str,
    /// The CUDA compute capability; the patch level is 0.
    pub cuda_compute_capability: Version,
    /// The kernel driver's version. `None` where it does not begin like a version.
    pub driver_version: Option<Version>,
    /// The same as the driver spells it, "535.54.03".
    pub driver_version_text: String,
    /// The newest CUDA version that the driver supports.
    pub cuda_driver_version: Version,
    /// Bytes of device memory. `None` on parts without memory of their own.
    pub memory_bytes: Option<u64>,
    /// How it reaches system memory, where the driver tells.
    pub addressing_mode: Option<AddressingMode>,
    /// The class of its PCI function, 0x030200. `None` where the bus does not tell.
    pub pci_class: Option<u32>,
    /// The clique of a fabric that spans nodes, `<UUID of the cluster>.<number>`. `None` while it is a member of none.
    pub clique: Option<String>,
    /// Whether a hypervisor made it.
    pub virtual_gpu: VirtualGpu,
}
