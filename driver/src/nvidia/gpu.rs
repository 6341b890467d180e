use semver::Version;
use tessera_nvml::AddressingMode;

/// What the driver says about an NVIDIA GPU. All but `minor` is as lasting as the board and the driver.
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
    /// The newest CUDA version that the driver supports.
    pub cuda_driver_version: Version,
    /// Bytes of device memory. `None` on parts without memory of their own.
    pub memory_bytes: Option<u64>,
    /// How it reaches system memory, where the driver tells.
    pub addressing_mode: Option<AddressingMode>,
}
