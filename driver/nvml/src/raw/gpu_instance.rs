//! GPU instances and their handles.

use std::marker::PhantomData;

use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings;

use crate::Placement;

/// A GPU instance that NVML has named. It may be destroyed meanwhile, by anybody; calls then fail with an invalid
/// argument.
#[derive(Clone, Copy)]
pub(crate) struct GpuInstanceHandle<'nvml> {
    pub(super) raw: bindings::nvmlGpuInstance_t,
    /// A handle means something to the library that gave it, as long as that is initialised.
    nvml: PhantomData<&'nvml Nvml>,
}

/// What NVML tells of a GPU instance.
pub(crate) struct GpuInstanceInfo {
    pub(crate) id: u32,
    pub(crate) profile: u32,
    pub(crate) placement: Placement,
}

fn handle<'nvml>(_: &'nvml Nvml, raw: bindings::nvmlGpuInstance_t) -> GpuInstanceHandle<'nvml> {
    GpuInstanceHandle { raw, nvml: PhantomData }
}

/// `nvmlDeviceGetGpuInstances`: those of one profile, of which there can be `most`.
pub(crate) fn gpu_instances<'nvml>(
    nvml: &'nvml Nvml,
    device: &Device<'_>,
    profile: u32,
    most: u32,
) -> Result<Vec<GpuInstanceHandle<'nvml>>, NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetGpuInstances.as_ref())?;
    // NVML takes no length: the array must have room for as many as the profile allows.
    let mut found = vec![std::ptr::null_mut(); most.max(1) as usize];
    let mut count = most;
    // SAFETY: the handle belongs to `nvml`, which is initialised as long as it lives; the array has the room that
    // nvml.h asks for.
    nvml_try(unsafe { call(device.handle(), profile, found.as_mut_ptr(), &raw mut count) })?;
    found.truncate(count as usize);
    Ok(found.into_iter().map(|raw| handle(nvml, raw)).collect())
}

/// `nvmlDeviceGetGpuInstanceById`
pub(crate) fn gpu_instance_by_id<'nvml>(
    nvml: &'nvml Nvml,
    device: &Device<'_>,
    id: u32,
) -> Result<GpuInstanceHandle<'nvml>, NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetGpuInstanceById.as_ref())?;
    let mut found = std::ptr::null_mut();
    // SAFETY: the handle belongs to `nvml`; the call only fills `found`.
    nvml_try(unsafe { call(device.handle(), id, &raw mut found) })?;
    Ok(handle(nvml, found))
}

/// `nvmlGpuInstanceGetInfo`
pub(crate) fn gpu_instance_info(nvml: &Nvml, instance: GpuInstanceHandle<'_>) -> Result<GpuInstanceInfo, NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlGpuInstanceGetInfo.as_ref())?;
    let mut info = bindings::nvmlGpuInstanceInfo_t {
        device: std::ptr::null_mut(),
        id: 0,
        profileId: 0,
        placement: bindings::nvmlGpuInstancePlacement_t { start: 0, size: 0 },
    };
    // SAFETY: the handle came from NVML, which checks whether it is still good; the call only fills `info`.
    nvml_try(unsafe { call(instance.raw, &raw mut info) })?;
    let placement = Placement { start: info.placement.start, size: info.placement.size };
    Ok(GpuInstanceInfo { id: info.id, profile: info.profileId, placement })
}

/// `nvmlDeviceCreateGpuInstanceWithPlacement`
pub(crate) fn create_gpu_instance<'nvml>(
    nvml: &'nvml Nvml,
    device: &Device<'_>,
    profile: u32,
    placement: Placement,
) -> Result<GpuInstanceHandle<'nvml>, NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlDeviceCreateGpuInstanceWithPlacement.as_ref())?;
    let at = bindings::nvmlGpuInstancePlacement_t { start: placement.start, size: placement.size };
    let mut made = std::ptr::null_mut();
    // SAFETY: the handle belongs to `nvml`; `at` is only read, and the call only fills `made`.
    nvml_try(unsafe { call(device.handle(), profile, &raw const at, &raw mut made) })?;
    Ok(handle(nvml, made))
}

/// `nvmlGpuInstanceDestroy`
pub(crate) fn destroy_gpu_instance(nvml: &Nvml, instance: GpuInstanceHandle<'_>) -> Result<(), NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlGpuInstanceDestroy.as_ref())?;
    // SAFETY: the handle came from NVML, which checks whether it is still good.
    nvml_try(unsafe { call(instance.raw) })
}
