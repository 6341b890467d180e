//! What a GPU is.

use std::ffi::{c_int, c_uint};

use nvml_wrapper_sys::bindings::{
    NVML_DEVICE_ARCH_ADA, NVML_DEVICE_ARCH_AMPERE, NVML_DEVICE_ARCH_BLACKWELL, NVML_DEVICE_ARCH_HOPPER,
    NVML_DEVICE_ARCH_TURING, nvmlBrandType_enum_NVML_BRAND_NVIDIA, nvmlBrandType_enum_NVML_BRAND_TESLA,
    nvmlBrandType_t, nvmlDevice_t, nvmlDeviceAddressingMode_v1_t,
    nvmlDeviceAddressingModeType_t_NVML_DEVICE_ADDRESSING_MODE_ATS,
    nvmlDeviceAddressingModeType_t_NVML_DEVICE_ADDRESSING_MODE_HMM,
    nvmlDeviceAddressingModeType_t_NVML_DEVICE_ADDRESSING_MODE_NONE, nvmlDeviceArchitecture_t,
    nvmlGpuVirtualizationMode_NVML_GPU_VIRTUALIZATION_MODE_NONE, nvmlGpuVirtualizationMode_t, nvmlReturn_t,
};
use simulated_hardware::{AddressingMode, Architecture, Brand, NvmlError};

use super::mig;
use crate::abi::{Out, TextOut};
use crate::call;
use crate::view::DeviceView;

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetName(device: nvmlDevice_t, name: TextOut, length: c_uint) -> nvmlReturn_t {
    call::device("nvmlDeviceGetName", device, |device| match device {
        DeviceView::Gpu(gpu) => name.set(length, &gpu.model.name),
        DeviceView::Mig(device) => {
            let row = mig::profile(device.parent)?;
            let own = mig::compute_profile(device)?;
            // The additions of a GPU instance, like +me, show when nothing of it is left to others.
            let part = if own.slices == row.slices { &row.name } else { &own.name };
            name.set(length, &format!("{} MIG {part}", device.parent.gpu.model.name))
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetUUID(device: nvmlDevice_t, uuid: TextOut, length: c_uint) -> nvmlReturn_t {
    call::device("nvmlDeviceGetUUID", device, |device| match device {
        DeviceView::Gpu(gpu) => uuid.set(length, &gpu.gpu.uuid),
        DeviceView::Mig(device) => uuid.set(length, &device.own.uuid),
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetSerial(device: nvmlDevice_t, serial: TextOut, length: c_uint) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetSerial", device, |gpu| {
        serial.set(length, gpu.gpu.serial.as_deref().ok_or(NvmlError::NOT_SUPPORTED)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetBoardPartNumber(device: nvmlDevice_t, number: TextOut, length: c_uint) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetBoardPartNumber", device, |gpu| number.set(length, &gpu.model.board_part_number))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetVbiosVersion(device: nvmlDevice_t, version: TextOut, length: c_uint) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetVbiosVersion", device, |gpu| version.set(length, &gpu.model.vbios))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMinorNumber(device: nvmlDevice_t, minor: Out<c_uint>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetMinorNumber", device, |gpu| minor.set(gpu.gpu.minor))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetModuleId(device: nvmlDevice_t, module: Out<c_uint>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetModuleId", device, |gpu| module.set(gpu.gpu.module_id.ok_or(NvmlError::NOT_SUPPORTED)?))
}

/// Made of the bus number, as the real one looks (`0x400` for bus 4).
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetBoardId(device: nvmlDevice_t, board: Out<c_uint>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetBoardId", device, |gpu| {
        board.set((gpu.gpu.pci.domain << 16) | (c_uint::from(gpu.gpu.pci.bus) << 8))
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMultiGpuBoard(device: nvmlDevice_t, several: Out<c_uint>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetMultiGpuBoard", device, |_| several.set(0))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetBrand(device: nvmlDevice_t, brand: Out<nvmlBrandType_t>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetBrand", device, |gpu| {
        brand.set(match gpu.model.brand {
            Brand::Tesla => nvmlBrandType_enum_NVML_BRAND_TESLA,
            Brand::Nvidia => nvmlBrandType_enum_NVML_BRAND_NVIDIA,
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetArchitecture(
    device: nvmlDevice_t,
    architecture: Out<nvmlDeviceArchitecture_t>,
) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetArchitecture", device, |gpu| {
        architecture.set(match gpu.model.architecture {
            Architecture::Turing => NVML_DEVICE_ARCH_TURING,
            Architecture::Ampere => NVML_DEVICE_ARCH_AMPERE,
            Architecture::Ada => NVML_DEVICE_ARCH_ADA,
            Architecture::Hopper => NVML_DEVICE_ARCH_HOPPER,
            Architecture::Blackwell => NVML_DEVICE_ARCH_BLACKWELL,
        })
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCudaComputeCapability(
    device: nvmlDevice_t,
    major: Out<c_int>,
    minor: Out<c_int>,
) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetCudaComputeCapability", device, |gpu| {
        major.set(gpu.model.compute_capability.major as c_int)?;
        minor.set(gpu.model.compute_capability.minor as c_int)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetNumGpuCores(device: nvmlDevice_t, cores: Out<c_uint>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetNumGpuCores", device, |gpu| cores.set(gpu.model.cores))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetVirtualizationMode(
    device: nvmlDevice_t,
    mode: Out<nvmlGpuVirtualizationMode_t>,
) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetVirtualizationMode", device, |_| {
        mode.set(nvmlGpuVirtualizationMode_NVML_GPU_VIRTUALIZATION_MODE_NONE)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetAddressingMode(
    device: nvmlDevice_t,
    mode: Out<nvmlDeviceAddressingMode_v1_t>,
) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetAddressingMode", device, |gpu| {
        let version = mode.expect_version(1)?;
        let value = match gpu.model.addressing_mode {
            AddressingMode::None => nvmlDeviceAddressingModeType_t_NVML_DEVICE_ADDRESSING_MODE_NONE,
            AddressingMode::Hmm => nvmlDeviceAddressingModeType_t_NVML_DEVICE_ADDRESSING_MODE_HMM,
            AddressingMode::Ats => nvmlDeviceAddressingModeType_t_NVML_DEVICE_ADDRESSING_MODE_ATS,
        };
        mode.set(nvmlDeviceAddressingMode_v1_t { version, value })
    })
}
