//! Modes that a client may change. They are part of the machine: other processes see them.

use nvml_wrapper_sys::bindings::{
    nvmlComputeMode_enum_NVML_COMPUTEMODE_DEFAULT, nvmlComputeMode_enum_NVML_COMPUTEMODE_EXCLUSIVE_PROCESS,
    nvmlComputeMode_enum_NVML_COMPUTEMODE_PROHIBITED, nvmlComputeMode_t, nvmlDevice_t,
    nvmlEnableState_enum_NVML_FEATURE_DISABLED, nvmlEnableState_enum_NVML_FEATURE_ENABLED, nvmlEnableState_t,
    nvmlReturn_t,
};
use simulated_hardware::{ComputeMode, Gpu, NvmlError};

use crate::abi::{Out, Result};
use crate::call;
use crate::view::GpuView;

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeMode(device: nvmlDevice_t, mode: Out<nvmlComputeMode_t>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetComputeMode", device, |gpu| {
        mode.set(match gpu.gpu.compute_mode {
            ComputeMode::Default => nvmlComputeMode_enum_NVML_COMPUTEMODE_DEFAULT,
            ComputeMode::Prohibited => nvmlComputeMode_enum_NVML_COMPUTEMODE_PROHIBITED,
            ComputeMode::ExclusiveProcess => nvmlComputeMode_enum_NVML_COMPUTEMODE_EXCLUSIVE_PROCESS,
        })
    })
}

/// Exclusive thread mode (1) is gone since CUDA 8 and refused, as by today's drivers.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceSetComputeMode(device: nvmlDevice_t, mode: nvmlComputeMode_t) -> nvmlReturn_t {
    call::gpu("nvmlDeviceSetComputeMode", device, |gpu| {
        let mode = match mode {
            nvmlComputeMode_enum_NVML_COMPUTEMODE_DEFAULT => ComputeMode::Default,
            nvmlComputeMode_enum_NVML_COMPUTEMODE_PROHIBITED => ComputeMode::Prohibited,
            nvmlComputeMode_enum_NVML_COMPUTEMODE_EXCLUSIVE_PROCESS => ComputeMode::ExclusiveProcess,
            _ => return Err(NvmlError::INVALID_ARGUMENT),
        };
        change(gpu, |gpu| gpu.compute_mode = mode)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPersistenceMode(device: nvmlDevice_t, mode: Out<nvmlEnableState_t>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetPersistenceMode", device, |gpu| mode.set(nvmlEnableState_t::from(gpu.gpu.persistence_mode)))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceSetPersistenceMode(device: nvmlDevice_t, mode: nvmlEnableState_t) -> nvmlReturn_t {
    call::gpu("nvmlDeviceSetPersistenceMode", device, |gpu| {
        let enabled = match mode {
            nvmlEnableState_enum_NVML_FEATURE_DISABLED => false,
            nvmlEnableState_enum_NVML_FEATURE_ENABLED => true,
            _ => return Err(NvmlError::INVALID_ARGUMENT),
        };
        change(gpu, |gpu| gpu.persistence_mode = enabled)
    })
}

/// Changes a GPU in the shared state.
fn change(gpu: GpuView<'_>, change: impl FnOnce(&mut Gpu)) -> Result {
    gpu.machine.change(|hardware| {
        change(hardware.gpus.get_mut(gpu.position).ok_or(NvmlError::UNKNOWN)?);
        Ok(())
    })
}
