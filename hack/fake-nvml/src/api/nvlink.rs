//! NVLinks. They go to switches, or straight to other GPUs.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlEnableState_enum_NVML_FEATURE_DISABLED, nvmlEnableState_enum_NVML_FEATURE_ENABLED,
    nvmlEnableState_t, nvmlIntNvLinkDeviceType_enum_NVML_NVLINK_DEVICE_TYPE_GPU,
    nvmlIntNvLinkDeviceType_enum_NVML_NVLINK_DEVICE_TYPE_SWITCH, nvmlIntNvLinkDeviceType_t, nvmlPciInfo_t,
    nvmlReturn_t,
};
use simulated_hardware::{NvmlError, PciAddress};

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
        active.set(if gpu.gpu.links_down.contains(&link) {
            nvmlEnableState_enum_NVML_FEATURE_DISABLED
        } else {
            nvmlEnableState_enum_NVML_FEATURE_ENABLED
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetNvLinkRemoteDeviceType(
    device: nvmlDevice_t,
    link: c_uint,
    kind: Out<nvmlIntNvLinkDeviceType_t>,
) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetNvLinkRemoteDeviceType", device, |gpu| {
        kind.set(match far_end(gpu, link)? {
            FarEnd::Gpu(_) => nvmlIntNvLinkDeviceType_enum_NVML_NVLINK_DEVICE_TYPE_GPU,
            FarEnd::Switch(_) => nvmlIntNvLinkDeviceType_enum_NVML_NVLINK_DEVICE_TYPE_SWITCH,
        })
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
        let address = match far_end(gpu, link)? {
            FarEnd::Gpu(peer) => Some(peer),
            FarEnd::Switch(switch) => switch,
        };
        info.set(address.map_or(nowhere, |address| pci_info(address, 0, 0)))
    })
}

/// What is at the far end of a link.
#[derive(Clone, Copy)]
enum FarEnd {
    Gpu(PciAddress),
    /// A switch, where the host sees it.
    Switch(Option<PciAddress>),
}

/// Links are dealt out in order: to the switches, then to the other ends of bridges.
fn far_end(gpu: GpuView<'_>, link: c_uint) -> Result<FarEnd> {
    if gpu.model.nvlinks == 0 {
        return Err(NvmlError::NOT_SUPPORTED);
    }
    let (own, hardware) = (gpu.gpu.pci, &gpu.machine.hardware);
    let linked = hardware.switches.iter().filter(|switch| switch.domain.is_none_or(|domain| domain == own.domain));
    let switches = linked.map(|switch| (FarEnd::Switch(switch.pci), switch.links));
    let bridges = hardware.bridges.iter().filter_map(|bridge| {
        let [one, two] = bridge.between;
        let peer = if one == own { two } else { one };
        bridge.between.contains(&own).then_some((FarEnd::Gpu(peer), bridge.links))
    });
    let mut next = 0;
    let found = switches.chain(bridges).find(|(_, links)| {
        next += links;
        link < next
    });
    found.map(|(end, _)| end).filter(|_| link < gpu.model.nvlinks).ok_or(NvmlError::INVALID_ARGUMENT)
}
