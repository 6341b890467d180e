//! GPU instances.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlGpuInstance_t, nvmlGpuInstanceInfo_t, nvmlGpuInstancePlacement_t, nvmlReturn_t,
};
use simulated_hardware::{NvmlError, Placement};

use super::gpu_placement;
use super::profile::with_id;
use crate::abi::{Out, Result};
use crate::view::{GpuInstanceView, GpuView};
use crate::{call, handle};

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceCreateGpuInstance(
    device: nvmlDevice_t,
    profile: c_uint,
    instance: Out<nvmlGpuInstance_t>,
) -> nvmlReturn_t {
    call::gpu("nvmlDeviceCreateGpuInstance", device, |gpu| create(gpu, profile, None, &instance))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceCreateGpuInstanceWithPlacement(
    device: nvmlDevice_t,
    profile: c_uint,
    placement: Out<nvmlGpuInstancePlacement_t>,
    instance: Out<nvmlGpuInstance_t>,
) -> nvmlReturn_t {
    call::gpu("nvmlDeviceCreateGpuInstanceWithPlacement", device, |gpu| {
        let nvmlGpuInstancePlacement_t { start, size } = placement.get()?;
        create(gpu, profile, Some(Placement { start, size }), &instance)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpuInstanceDestroy(instance: nvmlGpuInstance_t) -> nvmlReturn_t {
    call::gpu_instance("nvmlGpuInstanceDestroy", instance, |instance| {
        instance.gpu.machine.change(|hardware| hardware.destroy_gpu_instance(instance.instance.serial))
    })
}

/// The caller has room for as many as the profile allows; what the count holds before the call means nothing (nvml.h).
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGpuInstances(
    device: nvmlDevice_t,
    profile: c_uint,
    instances: Out<nvmlGpuInstance_t>,
    count: Out<c_uint>,
) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetGpuInstances", device, |gpu| {
        let row = with_id(gpu, profile)?;
        cut(gpu)?;
        let all = gpu.gpu.mig.gpu_instances.iter().filter(|instance| instance.profile == row.id);
        let handles: Vec<_> = all.map(|instance| handle::of_gpu_instance(instance.serial)).collect();
        if instances.is_null() {
            return Err(NvmlError::INVALID_ARGUMENT);
        }
        count.set(handles.len() as c_uint)?;
        instances.set_all(handles.into_iter(), row.max as usize)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGpuInstanceById(
    device: nvmlDevice_t,
    id: c_uint,
    instance: Out<nvmlGpuInstance_t>,
) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetGpuInstanceById", device, |gpu| {
        cut(gpu)?;
        let found = gpu.gpu.mig.gpu_instances.iter().find(|found| found.id == id).ok_or(NvmlError::NOT_FOUND)?;
        instance.set(GpuInstanceView { gpu, instance: found }.handle())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpuInstanceGetInfo(instance: nvmlGpuInstance_t, info: Out<nvmlGpuInstanceInfo_t>) -> nvmlReturn_t {
    call::gpu_instance("nvmlGpuInstanceGetInfo", instance, |GpuInstanceView { gpu, instance }| {
        info.set(nvmlGpuInstanceInfo_t {
            device: gpu.handle(),
            id: instance.id,
            profileId: instance.profile,
            placement: gpu_placement(instance.placement),
        })
    })
}

/// The place for the answer is looked at first: an instance that nobody gets the handle of would be lost.
fn create(gpu: GpuView<'_>, profile: c_uint, at: Option<Placement>, instance: &Out<nvmlGpuInstance_t>) -> Result {
    if instance.is_null() {
        return Err(NvmlError::INVALID_ARGUMENT);
    }
    let serial = gpu.machine.change(|hardware| hardware.create_gpu_instance(gpu.position, profile, at))?;
    instance.set(handle::of_gpu_instance(serial))
}

/// Calls about instances need the mode.
pub(super) fn cut(gpu: GpuView<'_>) -> Result {
    gpu.mig_table()?;
    if gpu.gpu.mig.mode { Ok(()) } else { Err(NvmlError::NOT_SUPPORTED) }
}
