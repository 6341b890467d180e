use std::collections::BTreeMap;

use semver::Version;
use tessera_nvml::AddressingMode;
use tessera_vocabulary::attributes::{nvidia, portable};
use tessera_vocabulary::capacities;

use crate::AttributeValue;

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

impl Gpu {
    pub(crate) fn attributes(&self) -> BTreeMap<&'static str, AttributeValue> {
        use AttributeValue::Version;
        let mut attributes = BTreeMap::from([
            (nvidia::TYPE, nvidia::TYPE_GPU.into()),
            (nvidia::UUID, self.uuid.as_str().into()),
            (nvidia::PRODUCT_NAME, self.product_name.as_str().into()),
            (nvidia::BRAND, self.brand.into()),
            (nvidia::ARCHITECTURE, self.architecture.into()),
            (nvidia::CUDA_COMPUTE_CAPABILITY, Version(self.cuda_compute_capability.clone())),
            (nvidia::CUDA_DRIVER_VERSION, Version(self.cuda_driver_version.clone())),
            (portable::VENDOR, "nvidia".into()),
            (portable::KIND, "gpu".into()),
            (portable::MODEL, self.product_name.as_str().into()),
            (portable::FAMILY, self.architecture.to_lowercase().as_str().into()),
        ]);
        if let Some(version) = &self.driver_version {
            attributes.insert(nvidia::DRIVER_VERSION, Version(version.clone()));
        }
        if let Some(mode) = self.addressing_mode {
            attributes.insert(nvidia::ADDRESSING_MODE, mode.to_string().as_str().into());
        }
        attributes
    }

    pub(crate) fn capacities(&self) -> BTreeMap<&'static str, u64> {
        self.memory_bytes
            .into_iter()
            .flat_map(|bytes| [(capacities::NVIDIA_MEMORY, bytes), (capacities::MEMORY, bytes)])
            .collect()
    }
}
