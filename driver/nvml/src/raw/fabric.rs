//! Membership in an NVLink fabric.

use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings;

use super::version;

/// What both versions of the call tell.
pub(crate) struct FabricRow {
    pub(crate) cluster: [u8; 16],
    pub(crate) clique: u32,
    /// `NVML_GPU_FABRIC_STATE_*`
    pub(crate) state: u8,
    /// How registration ended, an `nvmlReturn_t`; means something once it has.
    pub(crate) status: u32,
}

/// `nvmlDeviceGetGpuFabricInfoV`, or `nvmlDeviceGetGpuFabricInfo` where the driver knows only that (before 535) or where
/// the newer call takes no version 2 any more.
pub(crate) fn fabric(nvml: &Nvml, device: &Device<'_>) -> Result<FabricRow, NvmlError> {
    second(nvml, device).or_else(|_| first(nvml, device))
}

fn second(nvml: &Nvml, device: &Device<'_>) -> Result<FabricRow, NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetGpuFabricInfoV.as_ref())?;
    // The bindings know the call by the struct's latest version, which older drivers refuse. It has room for version 2,
    // which is its beginning.
    let mut info = bindings::nvmlGpuFabricInfo_v3_t {
        version: version::<bindings::nvmlGpuFabricInfo_v2_t>(2),
        clusterUuid: [0; 16],
        status: 0,
        cliqueId: 0,
        state: 0,
        healthMask: 0,
        healthSummary: 0,
    };
    // SAFETY: the handle belongs to `nvml`, which is initialised as long as it lives; `info` is larger than the struct of
    // the version it names, begins with the same fields, and outlives the call, which only fills it.
    nvml_try(unsafe { call(device.handle(), &raw mut info) })?;
    Ok(FabricRow { cluster: info.clusterUuid, clique: info.cliqueId, state: info.state, status: info.status })
}

fn first(nvml: &Nvml, device: &Device<'_>) -> Result<FabricRow, NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetGpuFabricInfo.as_ref())?;
    let mut info = bindings::nvmlGpuFabricInfo_t { clusterUuid: [0; 16], status: 0, cliqueId: 0, state: 0 };
    // SAFETY: the handle belongs to `nvml`, which is initialised as long as it lives; the call only fills `info`.
    nvml_try(unsafe { call(device.handle(), &raw mut info) })?;
    Ok(FabricRow { cluster: info.clusterUuid, clique: info.cliqueId, state: info.state, status: info.status })
}
