use std::path::Path;

use nvml_wrapper::bitmasks::InitFlags;
use nvml_wrapper::enum_wrappers::device::Brand;
use nvml_wrapper::enums::device::DeviceArchitecture;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use crate::error::optional;
use crate::{CallError, GpuFacts, OpenError, Versions, raw};

/// NVML, loaded and initialised. It keeps the driver's device file open: drop it, and open it again, when the driver
/// was reloaded.
pub struct Library {
    nvml: Nvml,
}

impl Library {
    /// Loads the library at an absolute path and initialises it. A node without any GPU is no error.
    ///
    /// # Errors
    /// [`OpenError::Load`] and [`OpenError::Init`]; see there.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        // Without NO_GPUS a driver that finds no GPU would fail here, and a GPU may still come.
        match Nvml::builder().lib_path(path.as_os_str()).flags(InitFlags::NO_GPUS).init() {
            Ok(nvml) => Ok(Self { nvml }),
            Err(NvmlError::LibloadingError(error)) => {
                Err(OpenError::Load { path: path.to_owned(), reason: error.to_string() })
            }
            Err(NvmlError::FailedToLoadSymbol(reason)) => {
                Err(OpenError::Load { path: path.to_owned(), reason: format!("it is no NVML: {reason}") })
            }
            Err(source) => Err(OpenError::Init { path: path.to_owned(), source }),
        }
    }

    pub(crate) fn nvml(&self) -> &Nvml {
        &self.nvml
    }

    /// The versions of the driver stack.
    ///
    /// # Errors
    /// Whatever NVML answers, with the call that failed.
    pub fn versions(&self) -> Result<Versions, CallError> {
        let driver = self.nvml.sys_driver_version().map_err(CallError::of("nvmlSystemGetDriverVersion"))?;
        let cuda = self.nvml.sys_cuda_driver_version().map_err(CallError::of("nvmlSystemGetCudaDriverVersion_v2"))?;
        // 12080 is 12.8.
        let cuda = u32::try_from(cuda).unwrap_or(0);
        Ok(Versions { driver, cuda: (cuda / 1000, cuda % 1000 / 10) })
    }

    /// Every GPU that the driver counts, each with its own result: one lost GPU hides no other.
    ///
    /// # Errors
    /// Only when the GPUs cannot even be counted.
    pub fn gpus(&self) -> Result<Vec<Result<GpuFacts, CallError>>, CallError> {
        let count = self.nvml.device_count().map_err(CallError::of("nvmlDeviceGetCount_v2"))?;
        Ok((0..count).map(|index| self.gpu(index)).collect())
    }

    fn gpu(&self, index: u32) -> Result<GpuFacts, CallError> {
        let gpu = self.nvml.device_by_index(index).map_err(CallError::of("nvmlDeviceGetHandleByIndex_v2"))?;
        let capability = gpu.cuda_compute_capability().map_err(CallError::of("nvmlDeviceGetCudaComputeCapability"))?;
        let compute_capability =
            (u32::try_from(capability.major).unwrap_or(0), u32::try_from(capability.minor).unwrap_or(0));
        Ok(GpuFacts {
            pci_bus_id: gpu.pci_info().map_err(CallError::of("nvmlDeviceGetPciInfo_v3"))?.bus_id,
            minor: gpu.minor_number().map_err(CallError::of("nvmlDeviceGetMinorNumber"))?,
            uuid: gpu.uuid().map_err(CallError::of("nvmlDeviceGetUUID"))?,
            name: gpu.name().map_err(CallError::of("nvmlDeviceGetName"))?,
            brand: brand(&gpu)?,
            architecture: architecture(&gpu)?,
            compute_capability,
            memory_bytes: optional("nvmlDeviceGetMemoryInfo_v2", gpu.memory_info())?.map(|memory| memory.total),
            addressing_mode: optional("nvmlDeviceGetAddressingMode", raw::addressing_mode(&self.nvml, &gpu))?,
        })
    }
}

/// The brand, spelt as NVIDIA's DRA driver publishes it.
fn brand(gpu: &Device<'_>) -> Result<&'static str, CallError> {
    Ok(match gpu.brand() {
        Ok(Brand::Quadro) => "Quadro",
        Ok(Brand::Tesla) => "Tesla",
        Ok(Brand::NVS) => "NVS",
        Ok(Brand::GRID) => "Grid",
        Ok(Brand::GeForce) => "GeForce",
        Ok(Brand::Titan) => "Titan",
        Ok(Brand::VApps) => "NvidiaVApps",
        Ok(Brand::VPC) => "NvidiaVPC",
        Ok(Brand::VCS) => "NvidiaVCS",
        Ok(Brand::VWS) => "NvidiaVWS",
        Ok(Brand::CloudGaming | Brand::VGaming) => "NvidiaCloudGaming",
        Ok(Brand::QuadroRTX) => "QuadroRTX",
        Ok(Brand::NvidiaRTX) => "NvidiaRTX",
        Ok(Brand::Nvidia) => "Nvidia",
        Ok(Brand::GeForceRTX) => "GeForceRTX",
        Ok(Brand::TitanRTX) => "TitanRTX",
        // A brand that is newer than this list is no fault.
        Ok(Brand::Unknown) | Err(NvmlError::UnexpectedVariant(_) | NvmlError::NotSupported) => "Unknown",
        Err(source) => return Err(CallError::of("nvmlDeviceGetBrand")(source)),
    })
}

/// The architecture, spelt as NVIDIA's DRA driver publishes it.
fn architecture(gpu: &Device<'_>) -> Result<&'static str, CallError> {
    Ok(match gpu.architecture() {
        Ok(DeviceArchitecture::Kepler) => "Kepler",
        Ok(DeviceArchitecture::Maxwell) => "Maxwell",
        Ok(DeviceArchitecture::Pascal) => "Pascal",
        Ok(DeviceArchitecture::Volta) => "Volta",
        Ok(DeviceArchitecture::Turing) => "Turing",
        Ok(DeviceArchitecture::Ampere) => "Ampere",
        Ok(DeviceArchitecture::Ada) => "Ada Lovelace",
        Ok(DeviceArchitecture::Hopper) => "Hopper",
        Ok(DeviceArchitecture::Blackwell) => "Blackwell",
        Ok(DeviceArchitecture::Unknown) | Err(NvmlError::UnexpectedVariant(_) | NvmlError::NotSupported) => "Unknown",
        Err(source) => return Err(CallError::of("nvmlDeviceGetArchitecture")(source)),
    })
}
