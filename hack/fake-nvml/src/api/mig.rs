//! MIG as far as it can be told from GPUs that are not cut: the mode is off, and there are no MIG devices.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};
use simulated_hardware::{MigTable, NvmlError};

use crate::abi::{Out, Result};
use crate::call;
use crate::session::GpuView;

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMigMode(device: nvmlDevice_t, current: Out<c_uint>, pending: Out<c_uint>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetMigMode", device, |gpu| {
        table(gpu)?;
        current.set(0)?;
        pending.set(0)
    })
}

/// 0 while the mode is off, also on parts that can be cut (nvml.h).
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMaxMigDeviceCount(device: nvmlDevice_t, count: Out<c_uint>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetMaxMigDeviceCount", device, |_| count.set(0))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: nvmlDevice_t,
    _index: c_uint,
    _mig_device: Out<nvmlDevice_t>,
) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetMigDeviceHandleByIndex", device, |gpu| {
        table(gpu)?;
        Err(NvmlError::NOT_FOUND)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceIsMigDeviceHandle(device: nvmlDevice_t, is_mig: Out<c_uint>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceIsMigDeviceHandle", device, |_| is_mig.set(0))
}

/// How the GPU can be cut.
fn table(gpu: GpuView<'_>) -> Result<&MigTable> {
    gpu.model.mig.as_ref().ok_or(NvmlError::NOT_SUPPORTED)
}
