//! Compute instances.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{
    nvmlComputeInstance_t, nvmlComputeInstanceInfo_t, nvmlComputeInstancePlacement_t, nvmlDevice_t, nvmlGpuInstance_t,
    nvmlReturn_t,
};
use simulated_hardware::{NvmlError, Placement};

use super::compute_placement;
use super::compute_profile::with_id;
use crate::abi::{Out, Result};
use crate::view::{ComputeInstanceView, GpuInstanceView};
use crate::{call, handle};

/// What the first version of the call fills: it knows no placement.
#[repr(C)]
struct ComputeInstanceInfoV1 {
    device: nvmlDevice_t,
    gpu_instance: nvmlGpuInstance_t,
    id: c_uint,
    profile: c_uint,
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpuInstanceCreateComputeInstance(
    parent: nvmlGpuInstance_t,
    profile: c_uint,
    instance: Out<nvmlComputeInstance_t>,
) -> nvmlReturn_t {
    call::gpu_instance("nvmlGpuInstanceCreateComputeInstance", parent, |parent| {
        create(parent, profile, None, &instance)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpuInstanceCreateComputeInstanceWithPlacement(
    parent: nvmlGpuInstance_t,
    profile: c_uint,
    placement: Out<nvmlComputeInstancePlacement_t>,
    instance: Out<nvmlComputeInstance_t>,
) -> nvmlReturn_t {
    call::gpu_instance("nvmlGpuInstanceCreateComputeInstanceWithPlacement", parent, |parent| {
        let nvmlComputeInstancePlacement_t { start, size } = placement.get()?;
        create(parent, profile, Some(Placement { start, size }), &instance)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlComputeInstanceDestroy(instance: nvmlComputeInstance_t) -> nvmlReturn_t {
    call::compute_instance("nvmlComputeInstanceDestroy", instance, |instance| {
        instance.parent.gpu.machine.change(|hardware| hardware.destroy_compute_instance(instance.own.serial))
    })
}

/// The caller has room for as many as the profile allows; what the count holds before the call means nothing (nvml.h).
#[unsafe(no_mangle)]
extern "C" fn nvmlGpuInstanceGetComputeInstances(
    parent: nvmlGpuInstance_t,
    profile: c_uint,
    instances: Out<nvmlComputeInstance_t>,
    count: Out<c_uint>,
) -> nvmlReturn_t {
    call::gpu_instance("nvmlGpuInstanceGetComputeInstances", parent, |parent| {
        let row = with_id(parent, profile)?;
        let all = parent.instance.compute_instances.iter().filter(|own| own.profile == row.id);
        let handles: Vec<_> = all.map(|own| handle::of_compute_instance(own.serial)).collect();
        if instances.is_null() {
            return Err(NvmlError::INVALID_ARGUMENT);
        }
        count.set(handles.len() as c_uint)?;
        instances.set_all(handles.into_iter(), row.max as usize)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpuInstanceGetComputeInstanceById(
    parent: nvmlGpuInstance_t,
    id: c_uint,
    instance: Out<nvmlComputeInstance_t>,
) -> nvmlReturn_t {
    call::gpu_instance("nvmlGpuInstanceGetComputeInstanceById", parent, |parent| {
        let own = parent.instance.compute_instances.iter().find(|own| own.id == id).ok_or(NvmlError::NOT_FOUND)?;
        instance.set(ComputeInstanceView { parent, own }.handle())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlComputeInstanceGetInfo(
    instance: nvmlComputeInstance_t,
    info: Out<ComputeInstanceInfoV1>,
) -> nvmlReturn_t {
    call::compute_instance("nvmlComputeInstanceGetInfo", instance, |ComputeInstanceView { parent, own }| {
        info.set(ComputeInstanceInfoV1 {
            device: parent.gpu.handle(),
            gpu_instance: parent.handle(),
            id: own.id,
            profile: own.profile,
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlComputeInstanceGetInfo_v2(
    instance: nvmlComputeInstance_t,
    info: Out<nvmlComputeInstanceInfo_t>,
) -> nvmlReturn_t {
    call::compute_instance("nvmlComputeInstanceGetInfo_v2", instance, |ComputeInstanceView { parent, own }| {
        info.set(nvmlComputeInstanceInfo_t {
            device: parent.gpu.handle(),
            gpuInstance: parent.handle(),
            id: own.id,
            profileId: own.profile,
            placement: compute_placement(own.placement),
        })
    })
}

/// The place for the answer is looked at first: an instance that nobody gets the handle of would be lost.
fn create(
    parent: GpuInstanceView<'_>,
    profile: c_uint,
    at: Option<Placement>,
    instance: &Out<nvmlComputeInstance_t>,
) -> Result {
    if instance.is_null() {
        return Err(NvmlError::INVALID_ARGUMENT);
    }
    let machine = parent.gpu.machine;
    let serial = machine.change(|hardware| hardware.create_compute_instance(parent.instance.serial, profile, at))?;
    instance.set(handle::of_compute_instance(serial))
}
