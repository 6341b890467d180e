//! Where a GPU sits on the PCI bus, and its link.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlPciInfo_t, nvmlPciInfoExt_v1_t, nvmlReturn_t};
use simulated_hardware::PciAddress;

use crate::abi::{Out, text_array};
use crate::call;
use crate::view::GpuView;

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPciInfo_v3(device: nvmlDevice_t, info: Out<nvmlPciInfo_t>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetPciInfo_v3", device, |gpu| {
        info.set(pci_info(gpu.gpu.pci, device_id(gpu), subsystem_id(gpu)))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPciInfoExt(device: nvmlDevice_t, info: Out<nvmlPciInfoExt_v1_t>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetPciInfoExt", device, |gpu| {
        let version = info.expect_version(1)?;
        let address = gpu.gpu.pci;
        info.set(nvmlPciInfoExt_v1_t {
            version,
            domain: address.domain,
            bus: address.bus.into(),
            device: address.device.into(),
            pciDeviceId: device_id(gpu),
            pciSubSystemId: subsystem_id(gpu),
            baseClass: gpu.model.pci.class >> 16,
            subClass: (gpu.model.pci.class >> 8) & 0xff,
            busId: text_array(&address.nvml()),
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCurrPcieLinkGeneration(device: nvmlDevice_t, generation: Out<c_uint>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetCurrPcieLinkGeneration", device, |gpu| generation.set(gpu.model.pci.link_generation))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMaxPcieLinkGeneration(device: nvmlDevice_t, generation: Out<c_uint>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetMaxPcieLinkGeneration", device, |gpu| generation.set(gpu.model.pci.link_generation))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCurrPcieLinkWidth(device: nvmlDevice_t, width: Out<c_uint>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetCurrPcieLinkWidth", device, |gpu| width.set(gpu.model.pci.link_width))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMaxPcieLinkWidth(device: nvmlDevice_t, width: Out<c_uint>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetMaxPcieLinkWidth", device, |gpu| width.set(gpu.model.pci.link_width))
}

/// The struct that describes the other end of an NVLink too, where the ids are 0.
pub(super) fn pci_info(address: PciAddress, device_id: c_uint, subsystem_id: c_uint) -> nvmlPciInfo_t {
    nvmlPciInfo_t {
        busIdLegacy: text_array(&address.nvml_legacy()),
        domain: address.domain,
        bus: address.bus.into(),
        device: address.device.into(),
        pciDeviceId: device_id,
        pciSubSystemId: subsystem_id,
        busId: text_array(&address.nvml()),
    }
}

/// Device id in the upper half, vendor in the lower: `0x233010DE`.
fn device_id(gpu: GpuView<'_>) -> c_uint {
    (c_uint::from(gpu.model.pci.device) << 16) | c_uint::from(gpu.model.pci.vendor)
}

fn subsystem_id(gpu: GpuView<'_>) -> c_uint {
    (c_uint::from(gpu.model.pci.subsystem_device) << 16) | c_uint::from(gpu.model.pci.subsystem_vendor)
}
