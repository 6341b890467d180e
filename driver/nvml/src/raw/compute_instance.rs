//! Compute instances, their profiles and their handles.

use std::marker::PhantomData;

use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings;

use super::gpu_instance::GpuInstanceHandle;
use crate::Placement;

/// A compute instance that NVML has named. It may be destroyed meanwhile; calls then fail with an invalid argument.
#[derive(Clone, Copy)]
pub(crate) struct ComputeInstanceHandle<'nvml> {
    raw: bindings::nvmlComputeInstance_t,
    /// A handle means something to the library that gave it, as long as that is initialised.
    nvml: PhantomData<&'nvml Nvml>,
}

/// What NVML tells of a compute instance.
pub(crate) struct ComputeInstanceInfo {
    pub(crate) id: u32,
    pub(crate) profile: u32,
    pub(crate) placement: Placement,
}

/// One profile of a GPU instance.
pub(crate) struct ComputeProfileRow {
    pub(crate) id: u32,
    pub(crate) slices: u32,
    pub(crate) instance_count: u32,
    pub(crate) multiprocessors: u32,
}

fn handle<'nvml>(_: &'nvml Nvml, raw: bindings::nvmlComputeInstance_t) -> ComputeInstanceHandle<'nvml> {
    ComputeInstanceHandle { raw, nvml: PhantomData }
}

/// `nvmlGpuInstanceGetComputeInstanceProfileInfo`, by query index; engines are shared, there is no other kind.
pub(crate) fn compute_profile(
    nvml: &Nvml,
    parent: GpuInstanceHandle<'_>,
    index: u32,
) -> Result<ComputeProfileRow, NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlGpuInstanceGetComputeInstanceProfileInfo.as_ref())?;
    let mut info = bindings::nvmlComputeInstanceProfileInfo_t {
        id: 0,
        sliceCount: 0,
        instanceCount: 0,
        multiprocessorCount: 0,
        sharedCopyEngineCount: 0,
        sharedDecoderCount: 0,
        sharedEncoderCount: 0,
        sharedJpegCount: 0,
        sharedOfaCount: 0,
    };
    let engines = bindings::NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED;
    // SAFETY: the handle came from NVML, which checks whether it is still good; the call only fills `info`.
    nvml_try(unsafe { call(parent.raw, index, engines, &raw mut info) })?;
    Ok(ComputeProfileRow {
        id: info.id,
        slices: info.sliceCount,
        instance_count: info.instanceCount,
        multiprocessors: info.multiprocessorCount,
    })
}

/// `nvmlGpuInstanceGetComputeInstances`: those of one profile, of which there can be `most`.
pub(crate) fn compute_instances<'nvml>(
    nvml: &'nvml Nvml,
    parent: GpuInstanceHandle<'_>,
    profile: u32,
    most: u32,
) -> Result<Vec<ComputeInstanceHandle<'nvml>>, NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlGpuInstanceGetComputeInstances.as_ref())?;
    // NVML takes no length: the array must have room for as many as the profile allows.
    let mut found = vec![std::ptr::null_mut(); most.max(1) as usize];
    let mut count = most;
    // SAFETY: the handle came from NVML, which checks whether it is still good; the array has the room that nvml.h asks
    // for.
    nvml_try(unsafe { call(parent.raw, profile, found.as_mut_ptr(), &raw mut count) })?;
    found.truncate(count as usize);
    Ok(found.into_iter().map(|raw| handle(nvml, raw)).collect())
}

/// `nvmlGpuInstanceGetComputeInstanceById`
pub(crate) fn compute_instance_by_id<'nvml>(
    nvml: &'nvml Nvml,
    parent: GpuInstanceHandle<'_>,
    id: u32,
) -> Result<ComputeInstanceHandle<'nvml>, NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlGpuInstanceGetComputeInstanceById.as_ref())?;
    let mut found = std::ptr::null_mut();
    // SAFETY: the handle came from NVML, which checks whether it is still good; the call only fills `found`.
    nvml_try(unsafe { call(parent.raw, id, &raw mut found) })?;
    Ok(handle(nvml, found))
}

/// `nvmlComputeInstanceGetInfo_v2`
pub(crate) fn compute_instance_info(
    nvml: &Nvml,
    instance: ComputeInstanceHandle<'_>,
) -> Result<ComputeInstanceInfo, NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlComputeInstanceGetInfo_v2.as_ref())?;
    let mut info = bindings::nvmlComputeInstanceInfo_t {
        device: std::ptr::null_mut(),
        gpuInstance: std::ptr::null_mut(),
        id: 0,
        profileId: 0,
        placement: bindings::nvmlComputeInstancePlacement_t { start: 0, size: 0 },
    };
    // SAFETY: the handle came from NVML, which checks whether it is still good; the call only fills `info`.
    nvml_try(unsafe { call(instance.raw, &raw mut info) })?;
    let placement = Placement { start: info.placement.start, size: info.placement.size };
    Ok(ComputeInstanceInfo { id: info.id, profile: info.profileId, placement })
}

/// `nvmlGpuInstanceCreateComputeInstance`: the driver chooses the place.
pub(crate) fn create_compute_instance<'nvml>(
    nvml: &'nvml Nvml,
    parent: GpuInstanceHandle<'_>,
    profile: u32,
) -> Result<ComputeInstanceHandle<'nvml>, NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlGpuInstanceCreateComputeInstance.as_ref())?;
    let mut made = std::ptr::null_mut();
    // SAFETY: the handle came from NVML, which checks whether it is still good; the call only fills `made`.
    nvml_try(unsafe { call(parent.raw, profile, &raw mut made) })?;
    Ok(handle(nvml, made))
}

/// `nvmlComputeInstanceDestroy`
pub(crate) fn destroy_compute_instance(nvml: &Nvml, instance: ComputeInstanceHandle<'_>) -> Result<(), NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlComputeInstanceDestroy.as_ref())?;
    // SAFETY: the handle came from NVML, which checks whether it is still good.
    nvml_try(unsafe { call(instance.raw) })
}

/// `nvmlDeviceGetGpuInstanceId`: of a MIG device.
pub(crate) fn gpu_instance_id(nvml: &Nvml, device: &Device<'_>) -> Result<u32, NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetGpuInstanceId.as_ref())?;
    let mut id = 0;
    // SAFETY: the handle belongs to `nvml`, which is initialised as long as it lives; the call only fills `id`.
    nvml_try(unsafe { call(device.handle(), &raw mut id) })?;
    Ok(id)
}

/// `nvmlDeviceGetComputeInstanceId`: of a MIG device.
pub(crate) fn compute_instance_id(nvml: &Nvml, device: &Device<'_>) -> Result<u32, NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetComputeInstanceId.as_ref())?;
    let mut id = 0;
    // SAFETY: the handle belongs to `nvml`, which is initialised as long as it lives; the call only fills `id`.
    nvml_try(unsafe { call(device.handle(), &raw mut id) })?;
    Ok(id)
}
