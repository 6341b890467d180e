//! The one way through which every exported function goes.
//!
//! In this order: is the library initialised, is the handle one, what do the faults say, is the GPU reachable, and then
//! the function's own behaviour. A latency is slept without any lock, so a slow call holds up nobody else.

use std::panic::{AssertUnwindSafe, catch_unwind};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};
use simulated_hardware::NvmlError;

use crate::abi::Result;
use crate::handle;
use crate::session::{self, GpuView, View};

const SUCCESS: nvmlReturn_t = 0;

/// A function about the machine.
pub(crate) fn machine(function: &str, body: impl FnOnce(&View) -> Result) -> nvmlReturn_t {
    bare(|| {
        let view = session::view()?;
        apply_faults(function, None)?;
        body(&view)
    })
}

/// A function about one GPU.
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

/// What the faults say about a call that turns out to be about this GPU, or about none.
pub(crate) fn apply_faults(function: &str, gpu: Option<GpuView<'_>>) -> Result {
    let verdict = session::judge(function, gpu.map(|gpu| gpu.gpu.pci))?;
    std::thread::sleep(verdict.latency);
    verdict.error.map_or(Ok(()), Err)
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
