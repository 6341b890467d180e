//! What compute instances there can be in a GPU instance. They share its engines.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{
    NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED, NVML_COMPUTE_INSTANCE_PROFILE_CAPS_GFX,
    nvmlComputeInstancePlacement_t, nvmlComputeInstanceProfileInfo_t, nvmlComputeInstanceProfileInfo_v2_t,
    nvmlComputeInstanceProfileInfo_v3_t, nvmlGpuInstance_t, nvmlReturn_t,
};
use simulated_hardware::{ComputeInstanceProfile, GpuInstanceProfile, NvmlError};

use super::profile::SINCE_VERSION_3;
use super::{compute_placement, compute_profiles, name, profile as parent_profile};
use crate::abi::{Out, Result, struct_version};
use crate::call;
use crate::view::GpuInstanceView;

/// `NVML_COMPUTE_INSTANCE_PROFILE_COUNT` of the newest header.
const COUNT: c_uint = 9;

#[unsafe(no_mangle)]
extern "C" fn nvmlGpuInstanceGetComputeInstanceProfileInfo(
    instance: nvmlGpuInstance_t,
    profile: c_uint,
    engines: c_uint,
    info: Out<nvmlComputeInstanceProfileInfo_t>,
) -> nvmlReturn_t {
    call::gpu_instance("nvmlGpuInstanceGetComputeInstanceProfileInfo", instance, |instance| {
        let (row, parent) = at_index(instance, profile, engines)?;
        info.set(nvmlComputeInstanceProfileInfo_t {
            id: row.id,
            sliceCount: row.slices,
            instanceCount: row.max,
            multiprocessorCount: row.multiprocessors,
            sharedCopyEngineCount: parent.copy_engines,
            sharedDecoderCount: parent.decoders,
            sharedEncoderCount: parent.encoders,
            sharedJpegCount: parent.jpeg,
            sharedOfaCount: parent.ofa,
        })
    })
}

/// Versions 2 and 3 of the struct.
#[unsafe(no_mangle)]
extern "C" fn nvmlGpuInstanceGetComputeInstanceProfileInfoV(
    instance: nvmlGpuInstance_t,
    profile: c_uint,
    engines: c_uint,
    info: Out<nvmlComputeInstanceProfileInfo_v3_t>,
) -> nvmlReturn_t {
    const VERSION_2: u32 = struct_version::<nvmlComputeInstanceProfileInfo_v2_t>(2);
    const VERSION_3: u32 = struct_version::<nvmlComputeInstanceProfileInfo_v3_t>(3);
    call::gpu_instance("nvmlGpuInstanceGetComputeInstanceProfileInfoV", instance, |instance| {
        let version = info.version()?;
        let (row, parent) = at_index(instance, profile, engines)?;
        match version {
            VERSION_2 => info.cast().set(nvmlComputeInstanceProfileInfo_v2_t {
                version,
                id: row.id,
                sliceCount: row.slices,
                instanceCount: row.max,
                multiprocessorCount: row.multiprocessors,
                sharedCopyEngineCount: parent.copy_engines,
                sharedDecoderCount: parent.decoders,
                sharedEncoderCount: parent.encoders,
                sharedJpegCount: parent.jpeg,
                sharedOfaCount: parent.ofa,
                name: name(&row.name),
            }),
            VERSION_3 if instance.gpu.machine.hardware.driver.major() >= SINCE_VERSION_3 => {
                info.set(nvmlComputeInstanceProfileInfo_v3_t {
                    version,
                    id: row.id,
                    sliceCount: row.slices,
                    instanceCount: row.max,
                    multiprocessorCount: row.multiprocessors,
                    sharedCopyEngineCount: parent.copy_engines,
                    sharedDecoderCount: parent.decoders,
                    sharedEncoderCount: parent.encoders,
                    sharedJpegCount: parent.jpeg,
                    sharedOfaCount: parent.ofa,
                    name: name(&row.name),
                    capabilities: if parent.name.ends_with("+gfx") {
                        NVML_COMPUTE_INSTANCE_PROFILE_CAPS_GFX
                    } else {
                        0
                    },
                })
            }
            _ => Err(NvmlError::ARGUMENT_VERSION_MISMATCH),
        }
    })
}

/// Without an array only the count.
#[unsafe(no_mangle)]
extern "C" fn nvmlGpuInstanceGetComputeInstancePossiblePlacements(
    instance: nvmlGpuInstance_t,
    profile: c_uint,
    placements: Out<nvmlComputeInstancePlacement_t>,
    count: Out<c_uint>,
) -> nvmlReturn_t {
    call::gpu_instance("nvmlGpuInstanceGetComputeInstancePossiblePlacements", instance, |instance| {
        let all: Vec<_> = with_id(instance, profile)?.placements().map(compute_placement).collect();
        count.set(all.len() as c_uint)?;
        let room = all.len();
        if placements.is_null() { Ok(()) } else { placements.set_all(all.into_iter(), room) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpuInstanceGetComputeInstanceRemainingCapacity(
    instance: nvmlGpuInstance_t,
    profile: c_uint,
    count: Out<c_uint>,
) -> nvmlReturn_t {
    call::gpu_instance("nvmlGpuInstanceGetComputeInstanceRemainingCapacity", instance, |instance| {
        // Places of one profile do not overlap, so each free one counts.
        count.set(with_id(instance, profile)?.free(&instance.instance.compute_instances).len() as c_uint)
    })
}

/// The row of a query index, and that of the GPU instance.
fn at_index(
    instance: GpuInstanceView<'_>,
    index: c_uint,
    engines: c_uint,
) -> Result<(ComputeInstanceProfile, &GpuInstanceProfile)> {
    if index >= COUNT || engines != NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED {
        return Err(NvmlError::INVALID_ARGUMENT);
    }
    let found = compute_profiles(instance)?.into_iter().find(|row| row.id == index);
    Ok((found.ok_or(NvmlError::NOT_SUPPORTED)?, parent_profile(instance)?))
}

/// The row of a profile id.
pub(super) fn with_id(instance: GpuInstanceView<'_>, id: c_uint) -> Result<ComputeInstanceProfile> {
    compute_profiles(instance)?.into_iter().find(|row| row.id == id).ok_or(NvmlError::INVALID_ARGUMENT)
}
