//! The mode: whether a GPU is to be cut at all.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{NVML_DEVICE_MIG_DISABLE, NVML_DEVICE_MIG_ENABLE, nvmlDevice_t, nvmlReturn_t};
use simulated_hardware::{Activation, NvmlError};

use crate::abi::Out;
use crate::call;

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMigMode(device: nvmlDevice_t, current: Out<c_uint>, pending: Out<c_uint>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetMigMode", device, |gpu| {
        gpu.mig_table()?;
        current.set(gpu.gpu.mig.mode.into())?;
        pending.set(gpu.gpu.mig.pending.into())
    })
}

/// The call succeeds when the mode was noted; whether it is there, too, is the activation status (nvml.h).
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceSetMigMode(device: nvmlDevice_t, mode: c_uint, activation: Out<nvmlReturn_t>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceSetMigMode", device, |gpu| {
        let on = match mode {
            NVML_DEVICE_MIG_DISABLE => false,
            NVML_DEVICE_MIG_ENABLE => true,
            _ => return Err(NvmlError::INVALID_ARGUMENT),
        };
        if activation.is_null() {
            return Err(NvmlError::INVALID_ARGUMENT);
        }
        activation.set(match gpu.machine.change(|hardware| hardware.set_mig_mode(gpu.position, on))? {
            Activation::Done => 0,
            Activation::ResetRequired => NvmlError::RESET_REQUIRED.code(),
            Activation::InUse => NvmlError::IN_USE.code(),
        })
    })
}

/// 0 while the mode is off, also on parts that can be cut (nvml.h).
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMaxMigDeviceCount(device: nvmlDevice_t, count: Out<c_uint>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetMaxMigDeviceCount", device, |gpu| {
        let most = gpu.model.mig.as_ref().filter(|_| gpu.gpu.mig.mode).map_or(0, |table| table.max_devices);
        count.set(most)
    })
}
