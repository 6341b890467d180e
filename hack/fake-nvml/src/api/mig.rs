//! MIG: cutting GPUs. The rules are those of `simulated_hardware`; here they get NVML's shape.

mod compute_instance;
mod compute_profile;
mod device;
mod gpu_instance;
mod mode;
mod profile;

use std::ffi::c_char;

use nvml_wrapper_sys::bindings::{nvmlComputeInstancePlacement_t, nvmlGpuInstancePlacement_t};
use simulated_hardware::{ComputeInstanceProfile, GpuInstanceProfile, NvmlError, Placement};

use crate::abi::{Result, text_array};
use crate::view::{ComputeInstanceView, GpuInstanceView};

/// The profile that a GPU instance was made by.
pub(super) fn profile(instance: GpuInstanceView<'_>) -> Result<&GpuInstanceProfile> {
    instance.gpu.mig_table()?.profile(instance.instance.profile).ok_or(NvmlError::UNKNOWN)
}

/// The profile that a compute instance was made by.
pub(super) fn compute_profile(device: ComputeInstanceView<'_>) -> Result<ComputeInstanceProfile> {
    let all = compute_profiles(device.parent)?;
    all.into_iter().find(|profile| profile.id == device.own.profile).ok_or(NvmlError::UNKNOWN)
}

fn compute_profiles(instance: GpuInstanceView<'_>) -> Result<Vec<ComputeInstanceProfile>> {
    Ok(ComputeInstanceProfile::of(instance.gpu.mig_table()?, profile(instance)?))
}

/// Names have `MIG ` before them, as `nvidia-smi mig -lgip` prints them.
fn name(name: &str) -> [c_char; 96] {
    text_array(&format!("MIG {name}"))
}

fn gpu_placement(placement: Placement) -> nvmlGpuInstancePlacement_t {
    nvmlGpuInstancePlacement_t { start: placement.start, size: placement.size }
}

fn compute_placement(placement: Placement) -> nvmlComputeInstancePlacement_t {
    nvmlComputeInstancePlacement_t { start: placement.start, size: placement.size }
}
