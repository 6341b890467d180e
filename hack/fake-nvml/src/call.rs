//! The one way through which every exported function goes.
//!
//! In this order: is the library initialised, is the handle one, what do the faults say, is the GPU reachable, and then
//! the function's own behaviour. A latency is slept without any lock, so a slow call holds up nobody else.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nvml_wrapper_sys::bindings::{nvmlComputeInstance_t, nvmlDevice_t, nvmlGpuInstance_t, nvmlReturn_t};
use simulated_hardware::{Call, NvmlError};

use crate::abi::Result;
use crate::handle;
use crate::session;
use crate::view::{ComputeInstanceView, DeviceView, GpuInstanceView, GpuView, View};

const SUCCESS: nvmlReturn_t = 0;

/// A function about the machine.
pub(crate) fn machine(function: &str, body: impl FnOnce(&View) -> Result) -> nvmlReturn_t {
    bare(|| {
        let view = session::view()?;
        apply_faults(function, None)?;
        body(&view)
    })
}

/// A function about one physical GPU. The handle of a MIG device is no valid argument.
pub(crate) fn gpu(function: &str, device: nvmlDevice_t, body: impl FnOnce(GpuView<'_>) -> Result) -> nvmlReturn_t {
    bare(|| {
        let view = session::view()?;
        let position = handle::to_position(device).ok_or(NvmlError::INVALID_ARGUMENT)?;
        let gpu = view.gpu(position)?;
        apply_faults(function, Some(gpu))?;
        reachable(gpu)?;
        body(gpu)
    })
}

/// A function about a GPU or a MIG device.
pub(crate) fn device(
    function: &str,
    device: nvmlDevice_t,
    body: impl FnOnce(DeviceView<'_>) -> Result,
) -> nvmlReturn_t {
    bare(|| {
        let view = session::view()?;
        let device = view.device(device)?;
        apply_faults(function, Some(device.gpu()))?;
        reachable(device.gpu())?;
        body(device)
    })
}

/// A function about a MIG device. The handle of a GPU is no valid argument.
pub(crate) fn mig_device(
    function: &str,
    handle: nvmlDevice_t,
    body: impl FnOnce(ComputeInstanceView<'_>) -> Result,
) -> nvmlReturn_t {
    device(function, handle, |device| match device {
        DeviceView::Mig(device) => body(device),
        DeviceView::Gpu(_) => Err(NvmlError::INVALID_ARGUMENT),
    })
}

/// A function about a GPU instance. Faults are about the GPU that it is a part of.
pub(crate) fn gpu_instance(
    function: &str,
    instance: nvmlGpuInstance_t,
    body: impl FnOnce(GpuInstanceView<'_>) -> Result,
) -> nvmlReturn_t {
    bare(|| {
        let view = session::view()?;
        let serial = handle::to_gpu_instance(instance).ok_or(NvmlError::INVALID_ARGUMENT)?;
        let instance = view.gpu_instance(serial)?;
        apply_faults(function, Some(instance.gpu))?;
        reachable(instance.gpu)?;
        body(instance)
    })
}

/// A function about a compute instance. Faults are about the GPU that it is a part of.
pub(crate) fn compute_instance(
    function: &str,
    instance: nvmlComputeInstance_t,
    body: impl FnOnce(ComputeInstanceView<'_>) -> Result,
) -> nvmlReturn_t {
    bare(|| {
        let view = session::view()?;
        let serial = handle::to_compute_instance(instance).ok_or(NvmlError::INVALID_ARGUMENT)?;
        let instance = view.compute_instance(serial)?;
        apply_faults(function, Some(instance.parent.gpu))?;
        reachable(instance.parent.gpu)?;
        body(instance)
    })
}

/// What the faults say about a call that turns out to be about this GPU, or about none.
pub(crate) fn apply_faults(function: &str, gpu: Option<GpuView<'_>>) -> Result {
    let verdict = session::judge(function, gpu.map(|gpu| gpu.gpu.pci))?;
    if let Some(GpuView { machine, gpu, .. }) = gpu.filter(|gpu| gpu.machine.hardware.records_calls) {
        *machine.call.borrow_mut() = Some(Call { function: function.to_owned(), gpu: Some(gpu.pci), changed: false });
    }
    verdict.carry_out()
}

/// A GPU that is off the bus, or that was pulled out under a handle, is lost.
pub(crate) fn reachable(gpu: GpuView<'_>) -> Result {
    if gpu.is_reachable() { Ok(()) } else { Err(NvmlError::GPU_IS_LOST) }
}

/// Turns an answer into NVML's number, and a panic into `UNKNOWN`: it must not unwind into C.
pub(crate) fn bare(body: impl FnOnce() -> Result) -> nvmlReturn_t {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => SUCCESS,
        Ok(Err(error)) => error.code(),
        Err(_) => NvmlError::UNKNOWN.code(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error() {
        assert_eq!(bare(|| panic!("inside")), 999);
        assert_eq!(bare(|| Err(NvmlError::IN_USE)), 19);
        assert_eq!(bare(|| Ok(())), 0);
    }
}
