//! The processes that use a GPU or a part of it. All of them compute.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlProcessInfo_t, nvmlReturn_t};
use simulated_hardware::{NvmlError, Process};

use crate::abi::{Out, Result};
use crate::call;
use crate::view::DeviceView;

/// An instance id that means the whole GPU.
const WHOLE_GPU: c_uint = c_uint::MAX;

/// A GPU answers for its MIG devices too, as to a root user (nvml.h).
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: nvmlDevice_t,
    count: Out<c_uint>,
    processes: Out<nvmlProcessInfo_t>,
) -> nvmlReturn_t {
    call::device("nvmlDeviceGetComputeRunningProcesses_v3", device, |device| {
        let here = |process: &&Process| match device {
            DeviceView::Gpu(_) => true,
            DeviceView::Mig(part) => process.instance == Some((part.parent.instance.id, part.own.id)),
        };
        let found: Vec<&Process> = device.gpu().gpu.processes.iter().filter(here).collect();
        let room = count.get()? as usize;
        count.set(found.len() as c_uint)?;
        if found.len() > room {
            return Err(NvmlError::INSUFFICIENT_SIZE);
        }
        processes.set_all(found.into_iter().map(info), room)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGraphicsRunningProcesses_v3(
    device: nvmlDevice_t,
    count: Out<c_uint>,
    _processes: Out<nvmlProcessInfo_t>,
) -> nvmlReturn_t {
    call::device("nvmlDeviceGetGraphicsRunningProcesses_v3", device, |_| none(&count))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMPSComputeRunningProcesses_v3(
    device: nvmlDevice_t,
    count: Out<c_uint>,
    _processes: Out<nvmlProcessInfo_t>,
) -> nvmlReturn_t {
    call::device("nvmlDeviceGetMPSComputeRunningProcesses_v3", device, |_| none(&count))
}

fn none(count: &Out<c_uint>) -> Result {
    count.set(0)
}

fn info(process: &Process) -> nvmlProcessInfo_t {
    let (gi, ci) = process.instance.unwrap_or((WHOLE_GPU, WHOLE_GPU));
    nvmlProcessInfo_t {
        pid: process.pid,
        usedGpuMemory: process.memory_mib << 20,
        gpuInstanceId: gi,
        computeInstanceId: ci,
    }
}
