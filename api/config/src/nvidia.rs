//! The kinds of NVIDIA's own driver, `resource.nvidia.com/v1beta1`, so that claims and classes written for it work here.
//! Its kinds for ComputeDomains are for another driver's devices.

mod sharing;
mod vfio;

pub use vfio::{IommuBackendPolicy, IommuConfig, VfioDeviceConfig};

pub(crate) use vfio::Settings as VfioSettings;

use crate::Problem;
use crate::kinds::{API_VERSION as VERSION_FIELD, KIND, Kind, Said};
use crate::object::Object;

pub(crate) const API_VERSION: &str = "resource.nvidia.com/v1beta1";

pub(crate) const KINDS: &[Kind] = &[("GpuConfig", gpu), ("MigDeviceConfig", mig), ("VfioDeviceConfig", vfio)];

/// What holds for a whole GPU. Sharing is all that NVIDIA's kind can set, and no way of sharing is offered yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuConfig {}

/// What holds for a MIG device. Sharing is all that NVIDIA's kind can set, and no way of sharing is offered yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MigDeviceConfig {}

fn gpu(object: &Object<'_>) -> Result<Said, Problem> {
    object.only(&[VERSION_FIELD, KIND, "sharing"])?;
    sharing::refuse(object)?;
    Ok(Said::Gpu)
}

fn mig(object: &Object<'_>) -> Result<Said, Problem> {
    object.only(&[VERSION_FIELD, KIND, "sharing"])?;
    sharing::refuse(object)?;
    Ok(Said::Mig)
}

fn vfio(object: &Object<'_>) -> Result<Said, Problem> {
    object.only(&[VERSION_FIELD, KIND, "iommu"])?;
    vfio::settings(object).map(Said::Vfio)
}
