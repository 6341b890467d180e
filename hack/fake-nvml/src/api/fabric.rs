//! The NVLink fabric that a GPU belongs to.

use nvml_wrapper_sys::bindings::{
    NVML_GPU_FABRIC_HEALTH_MASK_ACCESS_TIMEOUT_RECOVERY_FALSE, NVML_GPU_FABRIC_HEALTH_MASK_DEGRADED_BW_FALSE,
    NVML_GPU_FABRIC_HEALTH_MASK_INCORRECT_CONFIGURATION_NONE, NVML_GPU_FABRIC_HEALTH_MASK_ROUTE_RECOVERY_FALSE,
    NVML_GPU_FABRIC_HEALTH_MASK_ROUTE_UNHEALTHY_FALSE, NVML_GPU_FABRIC_HEALTH_MASK_SHIFT_ACCESS_TIMEOUT_RECOVERY,
    NVML_GPU_FABRIC_HEALTH_MASK_SHIFT_DEGRADED_BW, NVML_GPU_FABRIC_HEALTH_MASK_SHIFT_INCORRECT_CONFIGURATION,
    NVML_GPU_FABRIC_HEALTH_MASK_SHIFT_ROUTE_RECOVERY, NVML_GPU_FABRIC_HEALTH_MASK_SHIFT_ROUTE_UNHEALTHY,
    NVML_GPU_FABRIC_HEALTH_SUMMARY_HEALTHY, NVML_GPU_FABRIC_STATE_COMPLETED, NVML_GPU_FABRIC_STATE_IN_PROGRESS,
    NVML_GPU_FABRIC_STATE_NOT_STARTED, nvmlDevice_t, nvmlGpuFabricInfo_t, nvmlGpuFabricInfo_v2_t,
    nvmlGpuFabricInfo_v3_t, nvmlReturn_t,
};
use simulated_hardware::{Fabric, FabricState, NvmlError};

use crate::abi::{Out, Result, struct_version};
use crate::call;
use crate::view::GpuView;

/// Nothing is wrong with the fabric.
const HEALTHY: u32 = (NVML_GPU_FABRIC_HEALTH_MASK_DEGRADED_BW_FALSE << NVML_GPU_FABRIC_HEALTH_MASK_SHIFT_DEGRADED_BW)
    | (NVML_GPU_FABRIC_HEALTH_MASK_ROUTE_RECOVERY_FALSE << NVML_GPU_FABRIC_HEALTH_MASK_SHIFT_ROUTE_RECOVERY)
    | (NVML_GPU_FABRIC_HEALTH_MASK_ROUTE_UNHEALTHY_FALSE << NVML_GPU_FABRIC_HEALTH_MASK_SHIFT_ROUTE_UNHEALTHY)
    | (NVML_GPU_FABRIC_HEALTH_MASK_ACCESS_TIMEOUT_RECOVERY_FALSE
        << NVML_GPU_FABRIC_HEALTH_MASK_SHIFT_ACCESS_TIMEOUT_RECOVERY)
    | (NVML_GPU_FABRIC_HEALTH_MASK_INCORRECT_CONFIGURATION_NONE
        << NVML_GPU_FABRIC_HEALTH_MASK_SHIFT_INCORRECT_CONFIGURATION);

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGpuFabricInfo(device: nvmlDevice_t, info: Out<nvmlGpuFabricInfo_t>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetGpuFabricInfo", device, |gpu| {
        let Known { cluster, clique, state } = known(gpu)?;
        info.set(nvmlGpuFabricInfo_t { clusterUuid: cluster, status: 0, cliqueId: clique, state })
    })
}

/// Versions 2 and 3 of the struct.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGpuFabricInfoV(device: nvmlDevice_t, info: Out<nvmlGpuFabricInfo_v3_t>) -> nvmlReturn_t {
    const VERSION_2: u32 = struct_version::<nvmlGpuFabricInfo_v2_t>(2);
    const VERSION_3: u32 = struct_version::<nvmlGpuFabricInfo_v3_t>(3);
    call::gpu("nvmlDeviceGetGpuFabricInfoV", device, |gpu| {
        let version = info.version()?;
        let Known { cluster: clusterUuid, clique: cliqueId, state } = known(gpu)?;
        match version {
            VERSION_2 => info.cast().set(nvmlGpuFabricInfo_v2_t {
                version,
                clusterUuid,
                status: 0,
                cliqueId,
                state,
                healthMask: HEALTHY,
            }),
            VERSION_3 => info.set(nvmlGpuFabricInfo_v3_t {
                version,
                clusterUuid,
                status: 0,
                cliqueId,
                state,
                healthMask: HEALTHY,
                healthSummary: NVML_GPU_FABRIC_HEALTH_SUMMARY_HEALTHY as u8,
            }),
            _ => Err(NvmlError::ARGUMENT_VERSION_MISMATCH),
        }
    })
}

/// What is known of the fabric: before registration is complete, only how far it has come.
struct Known {
    cluster: [u8; 16],
    clique: u32,
    state: u8,
}

fn known(gpu: GpuView<'_>) -> Result<Known> {
    let Fabric { cluster, clique, state } = gpu.gpu.fabric.as_ref().ok_or(NvmlError::NOT_SUPPORTED)?;
    let (state, complete) = match state {
        FabricState::NotStarted => (NVML_GPU_FABRIC_STATE_NOT_STARTED, false),
        FabricState::InProgress => (NVML_GPU_FABRIC_STATE_IN_PROGRESS, false),
        FabricState::Completed => (NVML_GPU_FABRIC_STATE_COMPLETED, true),
    };
    let cluster = uuid_bytes(cluster).filter(|_| complete).unwrap_or_default();
    Ok(Known { cluster, clique: if complete { *clique } else { 0 }, state: state as u8 })
}

/// The bytes of a UUID, with or without its prefix, `GPU-` or `MIG-`.
pub(super) fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.trim_start_matches("GPU-").trim_start_matches("MIG-").split('-').collect();
    if digits.len() != 32 || !digits.is_ascii() {
        return None;
    }
    let mut bytes = [0; 16];
    for (position, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * position..2 * position + 2], 16).ok()?;
    }
    Some(bytes)
}
