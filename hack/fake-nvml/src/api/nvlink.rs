//! NVLinks. Every link of every simulated GPU ends at a switch.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlEnableState_enum_NVML_FEATURE_ENABLED, nvmlEnableState_t,
    nvmlIntNvLinkDeviceType_enum_NVML_NVLINK_DEVICE_TYPE_SWITCH, nvmlIntNvLinkDeviceType_t, nvmlPciInfo_t,
    nvmlReturn_t,
};
use simulated_hardware::{NvmlError, Switch};

use super::pci::pci_info;
use crate::abi::{Out, Result, text_array};
use crate::call;
use crate::view::GpuView;

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetNvLinkState(
    device: nvmlDevice_t,
    link: c_uint,
    active: Out<nvmlEnableState_t>,
) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetNvLinkState", device, |gpu| {
        far_end(gpu, link)?;
        active.set(nvmlEnableState_enum_NVML_FEATURE_ENABLED)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetNvLinkRemoteDeviceType(
    device: nvmlDevice_t,
    link: c_uint,
    kind: Out<nvmlIntNvLinkDeviceType_t>,
) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetNvLinkRemoteDeviceType", device, |gpu| {
        far_end(gpu, link)?;
        kind.set(nvmlIntNvLinkDeviceType_enum_NVML_NVLINK_DEVICE_TYPE_SWITCH)
    })
}

/// A switch that the host has on no PCI bus shows as `fffffff:ffff:ff`, the way NCCL's dumps of such machines show it.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetNvLinkRemotePciInfo_v2(
    device: nvmlDevice_t,
    link: c_uint,
    info: Out<nvmlPciInfo_t>,
) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetNvLinkRemotePciInfo_v2", device, |gpu| {
        let nowhere = nvmlPciInfo_t {
            busIdLegacy: text_array("ffff:ffff:ff"),
            domain: 0x0fff_ffff,
            bus: 0xffff,
            device: 0xff,
            pciDeviceId: 0,
            pciSubSystemId: 0,
            busId: text_array("fffffff:ffff:ff"),
        };
        info.set(far_end(gpu, link)?.pci.map_or(nowhere, |address| pci_info(address, 0, 0)))
    })
}

/// The switch at the far end of a link. Links are dealt out to the switches in order.
fn far_end(gpu: GpuView<'_>, link: c_uint) -> Result<&Switch> {
    if gpu.model.nvlinks == 0 {
        return Err(NvmlError::NOT_SUPPORTED);
    }
    let mut next = 0;
    let found = gpu.machine.hardware.switches.iter().find(|switch| {
        next += switch.links;
        link < next
    });
    found.filter(|_| link < gpu.model.nvlinks).ok_or(NvmlError::INVALID_ARGUMENT)
}
