//! Event sets: waiting for what GPUs report.

mod set;

use std::ffi::{c_uint, c_ulonglong};
use std::time::Duration;

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlEventData_t, nvmlEventSet_t, nvmlEventTypeClock, nvmlEventTypePState, nvmlReturn_t,
};
use simulated_hardware::{CudaVersion, EventType, NvmlError};

use crate::abi::{Out, Result};
use crate::view::GpuView;
use crate::{call, session};
use set::EventSet;

/// An instance id that means the whole GPU.
const WHOLE_GPU: c_uint = c_uint::MAX;

/// What the first version of the call fills: it knows no instances, and writing more would overrun the caller's struct.
#[repr(C)]
struct EventDataV1 {
    device: nvmlDevice_t,
    event_type: c_ulonglong,
    event_data: c_ulonglong,
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetCreate(set: Out<nvmlEventSet_t>) -> nvmlReturn_t {
    call::machine("nvmlEventSetCreate", |machine| set.set(set::create(machine)?))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetFree(set: nvmlEventSet_t) -> nvmlReturn_t {
    call::machine("nvmlEventSetFree", |_| set::free(set))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetSupportedEventTypes(device: nvmlDevice_t, types: Out<c_ulonglong>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetSupportedEventTypes", device, |gpu| types.set(supported(gpu)))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceRegisterEvents(device: nvmlDevice_t, types: c_ulonglong, set: nvmlEventSet_t) -> nvmlReturn_t {
    call::gpu("nvmlDeviceRegisterEvents", device, |gpu| {
        let set = set::find(set)?;
        if types & !supported(gpu) != 0 {
            return Err(NvmlError::NOT_SUPPORTED);
        }
        set.register(gpu.gpu.pci, types);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetWait(set: nvmlEventSet_t, data: Out<EventDataV1>, timeout_ms: c_uint) -> nvmlReturn_t {
    wait("nvmlEventSetWait", set, timeout_ms, |event| {
        data.set(EventDataV1 { device: event.device, event_type: event.eventType, event_data: event.eventData })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetWait_v2(set: nvmlEventSet_t, data: Out<nvmlEventData_t>, timeout_ms: c_uint) -> nvmlReturn_t {
    wait("nvmlEventSetWait_v2", set, timeout_ms, |event| data.set(event))
}

/// Faults come before the waiting.
fn wait(
    function: &str,
    set: nvmlEventSet_t,
    timeout_ms: c_uint,
    answer: impl FnOnce(nvmlEventData_t) -> Result,
) -> nvmlReturn_t {
    call::machine(function, |_| {
        let set = set::find(set)?;
        answer(next(&set, Duration::from_millis(timeout_ms.into()))?)
    })
}

/// The next event of a set. Pending ones come first; then a lost GPU among those registered makes the call fail, as
/// nvml.h has it ("if the target GPU has fallen off the bus"), without waiting.
fn next(set: &EventSet, timeout: Duration) -> Result<nvmlEventData_t> {
    set.wait(timeout, || {
        let machine = session::view()?;
        if let Some(event) = set.take(&machine.hardware) {
            let gpu = machine.hardware.gpus.iter().position(|gpu| gpu.pci == event.gpu).ok_or(NvmlError::UNKNOWN)?;
            return Ok(Some(nvmlEventData_t {
                device: crate::handle::of_gpu(gpu),
                eventType: event.kind.bit(),
                eventData: event.data,
                gpuInstanceId: event.gpu_instance.unwrap_or(WHOLE_GPU),
                computeInstanceId: event.compute_instance.unwrap_or(WHOLE_GPU),
            }));
        }
        let lost = machine.hardware.gpus.iter().any(|gpu| (gpu.lost || !gpu.present) && set.is_about(gpu.pci));
        if lost { Err(NvmlError::GPU_IS_LOST) } else { Ok(None) }
    })
}

/// Newer drivers know more kinds (570, which came with CUDA 12.8). Clock and power state changes can be registered and
/// never come.
fn supported(gpu: GpuView<'_>) -> c_ulonglong {
    let since_570 = CudaVersion { major: 12, minor: 8 };
    let mut types = EventType::Xid.bit() | c_ulonglong::from(nvmlEventTypeClock | nvmlEventTypePState);
    if gpu.model.ecc {
        types |= EventType::SingleBitEcc.bit() | EventType::DoubleBitEcc.bit();
    }
    if gpu.machine.hardware.driver.cuda >= since_570 {
        types |= EventType::GpuUnavailable.bit() | EventType::GpuRecoveryAction.bit();
    }
    types
}
