//! MIG devices: compute instances as clients see them, with handles like those of GPUs.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlDeviceAttributes_t, nvmlReturn_t};
use simulated_hardware::NvmlError;

use super::{compute_profile, profile};
use crate::abi::Out;
use crate::call;
use crate::view::DeviceView;

/// An index without a device is not found; one beyond what the GPU can be cut into is no valid argument.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: nvmlDevice_t,
    index: c_uint,
    mig_device: Out<nvmlDevice_t>,
) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetMigDeviceHandleByIndex", device, |gpu| {
        if index >= gpu.mig_table()?.max_devices {
            return Err(NvmlError::INVALID_ARGUMENT);
        }
        mig_device.set(gpu.mig_devices().nth(index as usize).ok_or(NvmlError::NOT_FOUND)?.device_handle())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceIsMigDeviceHandle(device: nvmlDevice_t, is_mig: Out<c_uint>) -> nvmlReturn_t {
    call::device("nvmlDeviceIsMigDeviceHandle", device, |device| {
        is_mig.set(matches!(device, DeviceView::Mig(_)).into())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetDeviceHandleFromMigDeviceHandle(
    mig_device: nvmlDevice_t,
    device: Out<nvmlDevice_t>,
) -> nvmlReturn_t {
    call::mig_device("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", mig_device, |part| {
        device.set(part.parent.gpu.handle())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGpuInstanceId(device: nvmlDevice_t, id: Out<c_uint>) -> nvmlReturn_t {
    call::mig_device("nvmlDeviceGetGpuInstanceId", device, |part| id.set(part.parent.instance.id))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeInstanceId(device: nvmlDevice_t, id: Out<c_uint>) -> nvmlReturn_t {
    call::mig_device("nvmlDeviceGetComputeInstanceId", device, |part| id.set(part.own.id))
}

/// Only of MIG devices.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetAttributes_v2(
    device: nvmlDevice_t,
    attributes: Out<nvmlDeviceAttributes_t>,
) -> nvmlReturn_t {
    call::device("nvmlDeviceGetAttributes_v2", device, |device| {
        let DeviceView::Mig(part) = device else { return Err(NvmlError::NOT_SUPPORTED) };
        let (row, own) = (profile(part.parent)?, compute_profile(part)?);
        attributes.set(nvmlDeviceAttributes_t {
            multiprocessorCount: own.multiprocessors,
            sharedCopyEngineCount: row.copy_engines,
            sharedDecoderCount: row.decoders,
            sharedEncoderCount: row.encoders,
            sharedJpegCount: row.jpeg,
            sharedOfaCount: row.ofa,
            gpuInstanceSliceCount: row.slices,
            computeInstanceSliceCount: own.slices,
            memorySizeMB: row.memory_mib,
        })
    })
}
