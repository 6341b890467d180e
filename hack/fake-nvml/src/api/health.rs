//! Health of idle GPUs with which nothing is wrong. What goes wrong is put in by faults and events.

use std::ffi::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlEccCounterType_t, nvmlEnableState_t, nvmlMemoryErrorType_t, nvmlReturn_t, nvmlTemperature_v1_t,
    nvmlTemperatureSensors_t,
};
use simulated_hardware::{Architecture, NvmlError};

use crate::abi::Out;
use crate::call;
use crate::view::GpuView;

/// Of an idle, cooled GPU, in degrees Celsius.
pub(super) const TEMPERATURE: u32 = 34;

/// `nvmlClocksEventReasonGpuIdle`
const IDLE: c_ulonglong = 1;

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetEccMode(
    device: nvmlDevice_t,
    current: Out<nvmlEnableState_t>,
    pending: Out<nvmlEnableState_t>,
) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetEccMode", device, |gpu| {
        current.set(gpu.model.ecc.into())?;
        pending.set(gpu.model.ecc.into())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTotalEccErrors(
    device: nvmlDevice_t,
    kind: nvmlMemoryErrorType_t,
    counter: nvmlEccCounterType_t,
    count: Out<c_ulonglong>,
) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetTotalEccErrors", device, |gpu| {
        // Two kinds (corrected or not) and two counters (since boot, ever).
        if kind > 1 || counter > 1 {
            return Err(NvmlError::INVALID_ARGUMENT);
        }
        if gpu.model.ecc { count.set(0) } else { Err(NvmlError::NOT_SUPPORTED) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetRemappedRows(
    device: nvmlDevice_t,
    corrected: Out<c_uint>,
    uncorrected: Out<c_uint>,
    pending: Out<c_uint>,
    failed: Out<c_uint>,
) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetRemappedRows", device, |gpu| {
        if !remaps_rows(gpu) {
            return Err(NvmlError::NOT_SUPPORTED);
        }
        [corrected, uncorrected, pending, failed].iter().try_for_each(|out| out.set(0))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetRetiredPagesPendingStatus(
    device: nvmlDevice_t,
    pending: Out<nvmlEnableState_t>,
) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetRetiredPagesPendingStatus", device, |gpu| {
        if remaps_rows(gpu) { Err(NvmlError::NOT_SUPPORTED) } else { pending.set(0) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTemperature(
    device: nvmlDevice_t,
    sensor: nvmlTemperatureSensors_t,
    temperature: Out<c_uint>,
) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetTemperature", device, |_| {
        if sensor == 0 { temperature.set(TEMPERATURE) } else { Err(NvmlError::INVALID_ARGUMENT) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTemperatureV(device: nvmlDevice_t, temperature: Out<nvmlTemperature_v1_t>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetTemperatureV", device, |_| {
        temperature.expect_version(1)?;
        let asked = temperature.get()?;
        if asked.sensorType != 0 {
            return Err(NvmlError::INVALID_ARGUMENT);
        }
        temperature.set(nvmlTemperature_v1_t { temperature: TEMPERATURE as i32, ..asked })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCurrentClocksEventReasons(device: nvmlDevice_t, reasons: Out<c_ulonglong>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetCurrentClocksEventReasons", device, |_| reasons.set(IDLE))
}

/// Ampere data-centre parts and later remap rows; earlier ones retire pages.
pub(super) fn remaps_rows(gpu: GpuView<'_>) -> bool {
    gpu.model.ecc && gpu.model.architecture != Architecture::Turing
}
