//! One GPU, to be cut.

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::struct_wrappers::device::ProcessInfo;
use nvml_wrapper::{Device, Nvml};

use super::{ComputeInstanceId, GpuInstanceId, MigMode, ModeChange};
use crate::error::optional;
use crate::raw::{self, GpuInstanceHandle};
use crate::{CallError, Library};

/// A GPU, to be cut. Every method asks the driver anew.
pub struct MigGpu<'lib> {
    pub(super) nvml: &'lib Nvml,
    pub(super) device: Device<'lib>,
    pub(super) uuid: String,
}

/// A process that uses a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GpuProcess {
    /// Its process id, as the host counts.
    pub pid: u32,
    /// What it runs on; absent on a GPU that is not cut.
    pub instance: Option<(GpuInstanceId, ComputeInstanceId)>,
}

impl Library {
    /// The GPU with this UUID. Looking it up can take seconds while others do the same, so one `MigGpu` should serve a
    /// whole piece of work; it stays good as long as the library is open and the GPU on the bus.
    ///
    /// # Errors
    /// [`ErrorClass::Gone`](crate::ErrorClass::Gone) if the driver has no such GPU.
    pub fn mig_gpu(&self, uuid: &str) -> Result<MigGpu<'_>, CallError> {
        let nvml = self.nvml();
        let device = nvml.device_by_uuid(uuid).map_err(CallError::about("nvmlDeviceGetHandleByUUID", uuid))?;
        Ok(MigGpu { nvml, device, uuid: uuid.to_owned() })
    }

    /// The GPU at a PCI address, whether it can be cut or not.
    ///
    /// # Errors
    /// [`ErrorClass::Gone`](crate::ErrorClass::Gone) if the driver has no such GPU.
    pub fn mig_gpu_at(&self, address: &str) -> Result<MigGpu<'_>, CallError> {
        let nvml = self.nvml();
        let about = |call| CallError::about(call, address);
        let device = nvml.device_by_pci_bus_id(address).map_err(about("nvmlDeviceGetHandleByPciBusId_v2"))?;
        let uuid = device.uuid().map_err(about("nvmlDeviceGetUUID"))?;
        Ok(MigGpu { nvml, device, uuid })
    }
}

impl<'lib> MigGpu<'lib> {
    /// Its UUID.
    pub fn uuid(&self) -> &str {
        &self.uuid
    }

    /// The mode; `None` on a GPU or with a driver that cannot cut.
    ///
    /// # Errors
    /// Whatever NVML answers.
    pub fn mode(&self) -> Result<Option<MigMode>, CallError> {
        let mode = optional("nvmlDeviceGetMigMode", self.device.mig_mode()).map_err(|error| error.on(&self.uuid))?;
        Ok(mode.map(|mode| MigMode { current: mode.current != 0, pending: mode.pending != 0 }))
    }

    /// Switches the mode.
    ///
    /// # Errors
    /// [`ErrorClass::Busy`](crate::ErrorClass::Busy) when processes use the GPU, or instances are in the way of
    /// switching it off. In the first case the driver has noted the mode, which is pending then; the call is to be
    /// repeated when the GPU is idle.
    pub fn set_mode(&self, on: bool) -> Result<ModeChange, CallError> {
        let call = "nvmlDeviceSetMigMode";
        let activation = self.device.set_mig_mode(on).map_err(self.failed(call))?;
        match nvml_wrapper::error::nvml_try(activation) {
            Ok(()) => Ok(ModeChange::Done),
            // The latter in virtual machines, whose driver cannot reset; pending it is all the same.
            Err(NvmlError::ResetRequired | NvmlError::NotSupported) => Ok(ModeChange::NeedsReset),
            Err(source) => Err(self.failed(call)(source)),
        }
    }

    /// Whether the mode is switched without a reset of the GPU: from Hopper on (compute capability 9).
    ///
    /// # Errors
    /// Whatever NVML answers.
    pub fn switches_without_reset(&self) -> Result<bool, CallError> {
        let capability = self.device.cuda_compute_capability();
        capability.map(|it| it.major >= 9).map_err(self.failed("nvmlDeviceGetCudaComputeCapability"))
    }

    /// The processes that compute on the GPU or a part of it: who is in the way.
    ///
    /// # Errors
    /// Whatever NVML answers.
    pub fn processes(&self) -> Result<Vec<GpuProcess>, CallError> {
        let call = "nvmlDeviceGetComputeRunningProcesses_v3";
        let found = self.device.running_compute_processes().map_err(self.failed(call))?;
        let instance = |process: &ProcessInfo| {
            let gpu_instance = process.gpu_instance_id.map(GpuInstanceId);
            gpu_instance.zip(process.compute_instance_id.map(ComputeInstanceId))
        };
        Ok(found.iter().map(|process| GpuProcess { pid: process.pid, instance: instance(process) }).collect())
    }

    pub(super) fn failed(&self, call: &'static str) -> impl FnOnce(NvmlError) -> CallError + '_ {
        CallError::about(call, &self.uuid)
    }

    pub(super) fn find(&self, id: GpuInstanceId) -> Result<GpuInstanceHandle<'lib>, CallError> {
        let found = raw::gpu_instance_by_id(self.nvml, &self.device, id.0);
        found.map_err(self.failed("nvmlDeviceGetGpuInstanceById"))
    }
}
