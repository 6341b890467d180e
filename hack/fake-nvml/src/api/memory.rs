//! Memory sizes.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{nvmlBAR1Memory_t, nvmlDevice_t, nvmlMemory_t, nvmlMemory_v2_t, nvmlReturn_t};

use simulated_hardware::Process;

use super::mig;
use crate::abi::{Out, Result};
use crate::call;
use crate::view::DeviceView;

const MIB: u64 = 1 << 20;

/// The first version counts what is reserved as used.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryInfo(device: nvmlDevice_t, memory: Out<nvmlMemory_t>) -> nvmlReturn_t {
    call::device("nvmlDeviceGetMemoryInfo", device, |device| {
        let Sizes { total, reserved, used } = sizes(device)?;
        let used = used + reserved;
        memory.set(nvmlMemory_t { total, free: total.saturating_sub(used), used })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryInfo_v2(device: nvmlDevice_t, memory: Out<nvmlMemory_v2_t>) -> nvmlReturn_t {
    call::device("nvmlDeviceGetMemoryInfo_v2", device, |device| {
        let version = memory.expect_version(2)?;
        let Sizes { total, reserved, used } = sizes(device)?;
        memory.set(nvmlMemory_v2_t { version, total, reserved, free: total.saturating_sub(reserved + used), used })
    })
}

/// In bytes.
struct Sizes {
    total: u64,
    reserved: u64,
    used: u64,
}

/// A MIG device has the memory of its GPU instance, which it may share with others.
fn sizes(device: DeviceView<'_>) -> Result<Sizes> {
    let processes = &device.gpu().gpu.processes;
    let mib: u64 = match device {
        DeviceView::Gpu(_) => processes.iter().map(|process| process.memory_mib).sum(),
        DeviceView::Mig(part) => {
            let here = |process: &&Process| process.instance.is_some_and(|(gi, _)| gi == part.parent.instance.id);
            processes.iter().filter(here).map(|process| process.memory_mib).sum()
        }
    };
    let (total, reserved) = match device {
        DeviceView::Gpu(gpu) => (gpu.model.memory.total_mib, gpu.model.memory.reserved_mib),
        DeviceView::Mig(part) => (mig::profile(part.parent)?.memory_mib, 0),
    };
    Ok(Sizes { total: total * MIB, reserved: reserved * MIB, used: mib * MIB })
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
