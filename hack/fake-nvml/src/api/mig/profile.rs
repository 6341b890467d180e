//! What GPU instances there can be. All but the remaining capacity is told also while the mode is off.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{
    NVML_GPU_INSTANCE_PROFILE_CAPS_GFX, nvmlDevice_t, nvmlGpuInstancePlacement_t, nvmlGpuInstanceProfileInfo_t,
    nvmlGpuInstanceProfileInfo_v2_t, nvmlGpuInstanceProfileInfo_v3_t, nvmlReturn_t,
};
use simulated_hardware::{GpuInstanceProfile, NvmlError};

use super::{gpu_placement, name};
use crate::abi::{Out, Result, struct_version};
use crate::call;
use crate::view::GpuView;

/// `NVML_GPU_INSTANCE_PROFILE_COUNT` of the newest header.
const COUNT: c_uint = 18;

/// The driver that brought version 3 of the structs, which has capabilities in the place of P2P.
pub(super) const SINCE_VERSION_3: u32 = 535;

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGpuInstanceProfileInfo(
    device: nvmlDevice_t,
    profile: c_uint,
    info: Out<nvmlGpuInstanceProfileInfo_t>,
) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetGpuInstanceProfileInfo", device, |gpu| {
        let row = at_index(gpu, profile)?;
        info.set(nvmlGpuInstanceProfileInfo_t {
            id: row.id,
            isP2pSupported: 0,
            sliceCount: row.slices,
            instanceCount: row.max,
            multiprocessorCount: row.multiprocessors,
            copyEngineCount: row.copy_engines,
            decoderCount: row.decoders,
            encoderCount: row.encoders,
            jpegCount: row.jpeg,
            ofaCount: row.ofa,
            memorySizeMB: row.memory_mib,
        })
    })
}

/// Versions 2 and 3 of the struct.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGpuInstanceProfileInfoV(
    device: nvmlDevice_t,
    profile: c_uint,
    info: Out<nvmlGpuInstanceProfileInfo_v3_t>,
) -> nvmlReturn_t {
    const VERSION_2: u32 = struct_version::<nvmlGpuInstanceProfileInfo_v2_t>(2);
    const VERSION_3: u32 = struct_version::<nvmlGpuInstanceProfileInfo_v3_t>(3);
    call::gpu("nvmlDeviceGetGpuInstanceProfileInfoV", device, |gpu| {
        let version = info.version()?;
        let row = at_index(gpu, profile)?;
        match version {
            VERSION_2 => info.cast().set(nvmlGpuInstanceProfileInfo_v2_t {
                version,
                id: row.id,
                isP2pSupported: 0,
                sliceCount: row.slices,
                instanceCount: row.max,
                multiprocessorCount: row.multiprocessors,
                copyEngineCount: row.copy_engines,
                decoderCount: row.decoders,
                encoderCount: row.encoders,
                jpegCount: row.jpeg,
                ofaCount: row.ofa,
                memorySizeMB: row.memory_mib,
                name: name(&row.name),
            }),
            VERSION_3 if gpu.machine.hardware.driver.major() >= SINCE_VERSION_3 => {
                info.set(nvmlGpuInstanceProfileInfo_v3_t {
                    version,
                    id: row.id,
                    sliceCount: row.slices,
                    instanceCount: row.max,
                    multiprocessorCount: row.multiprocessors,
                    copyEngineCount: row.copy_engines,
                    decoderCount: row.decoders,
                    encoderCount: row.encoders,
                    jpegCount: row.jpeg,
                    ofaCount: row.ofa,
                    memorySizeMB: row.memory_mib,
                    name: name(&row.name),
                    capabilities: if row.name.ends_with("+gfx") { NVML_GPU_INSTANCE_PROFILE_CAPS_GFX } else { 0 },
                })
            }
            _ => Err(NvmlError::ARGUMENT_VERSION_MISMATCH),
        }
    })
}

/// The caller must have room for all of them (nvml.h), so there must be a place for them.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGpuInstancePossiblePlacements(
    device: nvmlDevice_t,
    profile: c_uint,
    placements: Out<nvmlGpuInstancePlacement_t>,
    count: Out<c_uint>,
) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetGpuInstancePossiblePlacements", device, |gpu| {
        if placements.is_null() {
            return Err(NvmlError::INVALID_ARGUMENT);
        }
        possible_placements(gpu, profile, &placements, &count)
    })
}

/// Without an array only the count. What the count holds before the call means nothing (nvml.h).
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGpuInstancePossiblePlacements_v2(
    device: nvmlDevice_t,
    profile: c_uint,
    placements: Out<nvmlGpuInstancePlacement_t>,
    count: Out<c_uint>,
) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetGpuInstancePossiblePlacements_v2", device, |gpu| {
        possible_placements(gpu, profile, &placements, &count)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGpuInstanceRemainingCapacity(
    device: nvmlDevice_t,
    profile: c_uint,
    count: Out<c_uint>,
) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetGpuInstanceRemainingCapacity", device, |gpu| {
        let row = with_id(gpu, profile)?;
        super::gpu_instance::cut(gpu)?;
        count.set(gpu.mig_table()?.remaining(&gpu.gpu.mig.gpu_instances, row))
    })
}

fn possible_placements(
    gpu: GpuView<'_>,
    profile: c_uint,
    placements: &Out<nvmlGpuInstancePlacement_t>,
    count: &Out<c_uint>,
) -> Result {
    let all: Vec<_> = with_id(gpu, profile)?.placements().map(gpu_placement).collect();
    count.set(all.len() as c_uint)?;
    let room = all.len();
    if placements.is_null() { Ok(()) } else { placements.set_all(all.into_iter(), room) }
}

/// The row of a query index.
fn at_index(gpu: GpuView<'_>, index: c_uint) -> Result<&GpuInstanceProfile> {
    if index >= COUNT {
        return Err(NvmlError::INVALID_ARGUMENT);
    }
    gpu.mig_table()?.profiles.iter().find(|row| row.index == index).ok_or(NvmlError::NOT_SUPPORTED)
}

/// The row of a profile id, which is another number than the query index.
pub(super) fn with_id(gpu: GpuView<'_>, id: c_uint) -> Result<&GpuInstanceProfile> {
    gpu.mig_table()?.profile(id).ok_or(NvmlError::INVALID_ARGUMENT)
}
