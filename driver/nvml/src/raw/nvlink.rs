//! What NVLinks lead to.

use nvml_wrapper::enum_wrappers::nv_link::IntDeviceType;
use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings;

/// `nvmlDeviceGetNvLinkRemoteDeviceType`. The function of nvml-wrapper 0.13 throws the answer away and says unknown.
pub(crate) fn far_end(nvml: &Nvml, device: &Device<'_>, link: u32) -> Result<IntDeviceType, NvmlError> {
    let call = nvml_sym(nvml.lib().nvmlDeviceGetNvLinkRemoteDeviceType.as_ref())?;
    let mut kind = bindings::nvmlIntNvLinkDeviceType_enum_NVML_NVLINK_DEVICE_TYPE_UNKNOWN;
    // SAFETY: the handle belongs to `nvml`, which is initialised as long as it lives; the call only fills `kind`, an
    // integer, so that no answer is an invalid one.
    nvml_try(unsafe { call(device.handle(), link, &raw mut kind) })?;
    IntDeviceType::try_from(kind)
}
