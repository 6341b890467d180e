//! Memory sizes. Nothing runs on the GPUs, so all that is not reserved is free.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{nvmlBAR1Memory_t, nvmlDevice_t, nvmlMemory_t, nvmlMemory_v2_t, nvmlReturn_t};

use crate::abi::Out;
use crate::call;

const MIB: u64 = 1 << 20;

/// The first version counts what is reserved as used.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryInfo(device: nvmlDevice_t, memory: Out<nvmlMemory_t>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetMemoryInfo", device, |gpu| {
        let (total, reserved) = (gpu.model.memory.total_mib * MIB, gpu.model.memory.reserved_mib * MIB);
        memory.set(nvmlMemory_t { total, free: total - reserved, used: reserved })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: nvmlDevice_t, memory: Out<nvmlMemory_v2_t>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetMemoryInfo_v2", device, |gpu| {
        let version = memory.expect_version(2)?;
        let (total, reserved) = (gpu.model.memory.total_mib * MIB, gpu.model.memory.reserved_mib * MIB);
        memory.set(nvmlMemory_v2_t { version, total, reserved, free: total - reserved, used: 0 })
    })
}

/// An idle driver maps a MiB of it.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetBAR1MemoryInfo(device: nvmlDevice_t, memory: Out<nvmlBAR1Memory_t>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetBAR1MemoryInfo", device, |gpu| {
        let total = gpu.model.memory.bar1_mib * MIB;
        memory.set(nvmlBAR1Memory_t { bar1Total: total, bar1Free: total - MIB, bar1Used: MIB })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryBusWidth(device: nvmlDevice_t, width: Out<c_uint>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetMemoryBusWidth", device, |gpu| width.set(gpu.model.memory.bus_width))
}
