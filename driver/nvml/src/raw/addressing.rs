//! How a GPU reaches the memory of the system.

use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings;

use super::version;
use crate::AddressingMode;

/// `nvmlDeviceGetAddressingMode` (driver 550 and later).
pub(crate) fn addressing_mode(nvml: &Nvml, device: &Device<'_>) -> Result<AddressingMode, NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetAddressingMode.as_ref())?;
    let mut mode =
        bindings::nvmlDeviceAddressingMode_t { version: version::<bindings::nvmlDeviceAddressingMode_t>(1), value: 0 };
    // SAFETY: the handle belongs to `nvml`, which is initialised as long as it lives; `mode` is a valid struct of the
    // version it names and outlives the call, which only fills it.
    nvml_try(unsafe { call(device.handle(), &raw mut mode) })?;
    match mode.value {
        bindings::nvmlDeviceAddressingModeType_t_NVML_DEVICE_ADDRESSING_MODE_NONE => Ok(AddressingMode::None),
        bindings::nvmlDeviceAddressingModeType_t_NVML_DEVICE_ADDRESSING_MODE_HMM => Ok(AddressingMode::Hmm),
        bindings::nvmlDeviceAddressingModeType_t_NVML_DEVICE_ADDRESSING_MODE_ATS => Ok(AddressingMode::Ats),
        other => Err(NvmlError::UnexpectedVariant(other)),
    }
}
