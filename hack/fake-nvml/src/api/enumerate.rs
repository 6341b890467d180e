//! From counts, indices and names to handles.

use std::ffi::{c_char, c_uint};

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlReturn_t, nvmlUUID_t, nvmlUUIDType_t_NVML_UUID_TYPE_ASCII, nvmlUUIDType_t_NVML_UUID_TYPE_BINARY,
};
use simulated_hardware::{NvmlError, PciAddress};

use crate::abi::{Out, Result, TextIn};
use crate::call;
use crate::session;
use crate::view::{DeviceView, GpuView, View};

/// Also brings enumeration up to date: a GPU that was pulled out is gone from here on, and the indices close up.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCount_v2(count: Out<c_uint>) -> nvmlReturn_t {
    call::bare(|| {
        let machine = session::enumerate()?;
        call::apply_faults("nvmlDeviceGetCount_v2", None)?;
        count.set(machine.visible.len() as c_uint)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: Out<nvmlDevice_t>) -> nvmlReturn_t {
    look_up("nvmlDeviceGetHandleByIndex_v2", device, NvmlError::INVALID_ARGUMENT, |machine| {
        Ok(machine.gpus().nth(index as usize).map(DeviceView::Gpu))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByUUID(uuid: TextIn, device: Out<nvmlDevice_t>) -> nvmlReturn_t {
    look_up("nvmlDeviceGetHandleByUUID", device, NvmlError::NOT_FOUND, |machine| {
        let uuid = uuid.get()?;
        let gpu = machine.gpus().find(|gpu| gpu.gpu.uuid == uuid).map(DeviceView::Gpu);
        let mut parts = machine.gpus().flat_map(GpuView::mig_devices);
        Ok(gpu.or_else(|| parts.find(|part| part.own.uuid == uuid).map(DeviceView::Mig)))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByUUIDV(uuid: Out<nvmlUUID_t>, device: Out<nvmlDevice_t>) -> nvmlReturn_t {
    look_up("nvmlDeviceGetHandleByUUIDV", device, NvmlError::NOT_FOUND, |machine| {
        let bytes = uuid_bytes(&uuid)?;
        let is = |uuid: &str| super::fabric::uuid_bytes(uuid) == Some(bytes);
        let gpu = machine.gpus().find(|gpu| is(&gpu.gpu.uuid)).map(DeviceView::Gpu);
        let mut parts = machine.gpus().flat_map(GpuView::mig_devices);
        Ok(gpu.or_else(|| parts.find(|part| is(&part.own.uuid)).map(DeviceView::Mig)))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByPciBusId_v2(bus_id: TextIn, device: Out<nvmlDevice_t>) -> nvmlReturn_t {
    look_up("nvmlDeviceGetHandleByPciBusId_v2", device, NvmlError::NOT_FOUND, |machine| {
        let address: PciAddress = bus_id.get()?.parse().map_err(|_| NvmlError::INVALID_ARGUMENT)?;
        Ok(machine.gpus().find(|gpu| gpu.gpu.pci == address).map(DeviceView::Gpu))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleBySerial(serial: TextIn, device: Out<nvmlDevice_t>) -> nvmlReturn_t {
    look_up("nvmlDeviceGetHandleBySerial", device, NvmlError::NOT_FOUND, |machine| {
        let serial = serial.get()?;
        Ok(machine.gpus().find(|gpu| gpu.gpu.serial.as_deref() == Some(&serial)).map(DeviceView::Gpu))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetIndex(device: nvmlDevice_t, index: Out<c_uint>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetIndex", device, |gpu| {
        let place = gpu.machine.visible.iter().position(|position| *position == gpu.position);
        index.set(place.ok_or(NvmlError::NOT_FOUND)? as c_uint)
    })
}

/// A search for a GPU or a MIG device. A fault about one GPU acts on the search that finds it, or a part of it.
fn look_up(
    function: &str,
    device: Out<nvmlDevice_t>,
    absent: NvmlError,
    find: impl FnOnce(&View) -> Result<Option<DeviceView<'_>>>,
) -> nvmlReturn_t {
    call::bare(|| {
        let machine = session::view()?;
        let found = find(&machine)?;
        call::apply_faults(function, found.map(|found| found.gpu()))?;
        let found = found.ok_or(absent)?;
        call::reachable(found.gpu())?;
        device.set(match found {
            DeviceView::Gpu(gpu) => gpu.handle(),
            DeviceView::Mig(part) => part.device_handle(),
        })
    })
}

fn uuid_bytes(uuid: &Out<nvmlUUID_t>) -> Result<[u8; 16]> {
    uuid.expect_version(1)?;
    let uuid = uuid.get()?;
    match uuid.type_ {
        // SAFETY: every bit pattern is an array of bytes, and the caller has filled the struct.
        nvmlUUIDType_t_NVML_UUID_TYPE_BINARY => Ok(unsafe { uuid.value.bytes }),
        nvmlUUIDType_t_NVML_UUID_TYPE_ASCII => {
            // SAFETY: every bit pattern is an array of characters, and the caller has filled the struct.
            let text: [c_char; 41] = unsafe { uuid.value.str_ };
            let text: Vec<u8> = text.iter().map(|byte| *byte as u8).take_while(|byte| *byte != 0).collect();
            let text = String::from_utf8(text).map_err(|_| NvmlError::INVALID_ARGUMENT)?;
            super::fabric::uuid_bytes(&text).ok_or(NvmlError::INVALID_ARGUMENT)
        }
        _ => Err(NvmlError::INVALID_ARGUMENT),
    }
}
