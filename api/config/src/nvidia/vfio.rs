use crate::Problem;
use crate::object::Object;

/// What holds for a device that is handed to user space by VFIO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VfioDeviceConfig {
    /// By which interface the container reaches the device.
    pub iommu: IommuConfig,
}

impl VfioDeviceConfig {
    /// What holds where nothing is said.
    pub const DEFAULT: Self =
        Self { iommu: IommuConfig { backend_policy: IommuBackendPolicy::LegacyOnly, enable_api_device: false } };
}

/// By which interface of the kernel a container reaches a VFIO device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IommuConfig {
    /// Groups or iommufd.
    pub backend_policy: IommuBackendPolicy,
    /// Whether the container also gets the node's IOMMU API device: `/dev/vfio/vfio`, or `/dev/iommu` with iommufd.
    ///
    /// For a DeviceClass to give; a claim may ask for it where its class does, as those that NVIDIA's guides show for
    /// KubeVirt. The device's own node is of use only together with this one, and this one is the same
    /// for the whole node: who has both drives a PCI function raw, has it write into memory by DMA and pins that memory.
    /// Without it only a program that gets the API device by another way can, as the launcher of a virtual machine
    /// does. Which containers may is a decision about the node, not about one claim.
    pub enable_api_device: bool,
}

/// Which of the kernel's two interfaces is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IommuBackendPolicy {
    /// The IOMMU group, `/dev/vfio/<group>`.
    #[default]
    LegacyOnly,
    /// The device by itself, `/dev/vfio/devices/vfio<n>`, where the kernel has iommufd's nodes; else the group.
    PreferIommuFd,
}

const POLICIES: &[(&str, IommuBackendPolicy)] =
    &[("LegacyOnly", IommuBackendPolicy::LegacyOnly), ("PreferIommuFD", IommuBackendPolicy::PreferIommuFd)];

/// What one config says about these. What it leaves out stays as it was: else a claim that chooses an interface would
/// take back, unsaid, what only its class can give.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    backend_policy: Option<IommuBackendPolicy>,
    enable_api_device: Option<bool>,
}

impl Settings {
    pub(crate) fn allowed(&self, given: &VfioDeviceConfig) -> Result<(), Problem> {
        if self.enable_api_device == Some(true) && !given.iommu.enable_api_device {
            return Err(Problem::ForClassAlone { path: "iommu.enableAPIDevice".to_owned(), found: "true".to_owned() });
        }
        Ok(())
    }

    pub(crate) fn apply(&self, config: &mut VfioDeviceConfig) {
        let IommuConfig { backend_policy, enable_api_device } = &mut config.iommu;
        *backend_policy = self.backend_policy.unwrap_or(*backend_policy);
        *enable_api_device = self.enable_api_device.unwrap_or(*enable_api_device);
    }
}

pub(super) fn settings(object: &Object<'_>) -> Result<Settings, Problem> {
    let Some(iommu) = object.object("iommu")? else { return Ok(Settings::default()) };
    iommu.only(&["backendPolicy", "enableAPIDevice"])?;
    let backend_policy = iommu.choice("backendPolicy", POLICIES)?;
    let enable_api_device = iommu.flag("enableAPIDevice")?;
    Ok(Settings { backend_policy, enable_api_device })
}
