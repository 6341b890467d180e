//! What a GPU is cut into.

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use super::{ComputeInstanceId, ComputeProfileId, GpuInstanceId, MigGpu, MigProfileId, Placement};
use crate::error::optional;
use crate::raw::{self, ComputeInstanceInfo, GpuInstanceHandle};
use crate::{CallError, ErrorClass, Library};

/// A part of a GPU with memory and engines of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuInstance {
    /// Its id on its GPU.
    pub id: GpuInstanceId,
    /// What it was made by.
    pub profile: MigProfileId,
    /// The memory slices it takes.
    pub placement: Placement,
    /// What it is cut into, by id.
    pub compute_instances: Vec<ComputeInstance>,
}

/// A part of a GPU instance's multiprocessors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComputeInstance {
    /// Its id in its GPU instance.
    pub id: ComputeInstanceId,
    /// What it was made by.
    pub profile: ComputeProfileId,
    /// The compute slices of its GPU instance that it takes.
    pub placement: Placement,
    /// "MIG-" and a UUID: the MIG device that it is. Absent if it came or went while it was looked at.
    pub uuid: Option<String>,
}

/// A compute instance as containers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigDevice {
    /// "MIG-" and a UUID. It lives as long as the compute instance and never comes again.
    pub uuid: String,
    /// The UUID of the GPU that it is a part of.
    pub gpu: String,
    /// Its GPU instance.
    pub gpu_instance: GpuInstanceId,
    /// Its compute instance.
    pub compute_instance: ComputeInstanceId,
}

impl Library {
    /// The MIG device with this UUID, whichever GPU it is a part of.
    ///
    /// # Errors
    /// [`ErrorClass::Gone`] if there is none: it was destroyed, or the node rebooted.
    pub fn mig_device(&self, uuid: &str) -> Result<MigDevice, CallError> {
        let found = self.nvml().device_by_uuid(uuid);
        let device = found.map_err(CallError::about("nvmlDeviceGetHandleByUUID", uuid))?;
        let parent = device.mig_parent_device();
        let parent = parent.map_err(CallError::about("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", uuid))?;
        let gpu = parent.uuid().map_err(CallError::about("nvmlDeviceGetUUID", uuid))?;
        device_of(self.nvml(), &device, &gpu)
    }
}

impl MigGpu<'_> {
    /// What it is cut into, by id; empty while the mode is off.
    ///
    /// # Errors
    /// Whatever NVML answers. An instance that is destroyed meanwhile is left out.
    pub fn gpu_instances(&self) -> Result<Vec<GpuInstance>, CallError> {
        let is_cut = || Ok::<_, CallError>(self.mode()?.is_some_and(|mode| mode.current));
        if !is_cut()? {
            return Ok(Vec::new());
        }
        match self.instances_of_cut() {
            // The mode was switched off while they were looked at; it could not be with any of them left.
            Err(error) if error.class() == ErrorClass::NotSupported && !is_cut()? => Ok(Vec::new()),
            found => found,
        }
    }

    fn instances_of_cut(&self) -> Result<Vec<GpuInstance>, CallError> {
        let devices = self.devices()?;
        let mut found = Vec::new();
        for (_, row) in self.rows()? {
            let all = raw::gpu_instances(self.nvml, &self.device, row.id, row.instance_count);
            for handle in all.map_err(self.failed("nvmlDeviceGetGpuInstances"))? {
                found.extend(unless_gone(self.read(handle, &devices))?);
            }
        }
        found.sort_by_key(|instance| instance.id);
        Ok(found)
    }

    /// One GPU instance.
    ///
    /// # Errors
    /// [`ErrorClass::Gone`] if there is none with this id.
    pub fn gpu_instance(&self, id: GpuInstanceId) -> Result<GpuInstance, CallError> {
        self.read(self.find(id)?, &self.devices()?)
    }

    /// The MIG devices, by the ids of their instances.
    ///
    /// # Errors
    /// Whatever NVML answers. A device that is destroyed meanwhile is left out.
    pub fn devices(&self) -> Result<Vec<MigDevice>, CallError> {
        let most = optional("nvmlDeviceGetMaxMigDeviceCount", self.device.mig_device_count());
        let most = most.map_err(|error| error.on(&self.uuid))?.unwrap_or(0);
        let mut found = Vec::new();
        for index in 0..most {
            let device = match self.device.mig_device_by_index(index) {
                Ok(device) => device,
                // Indices need not be in one piece.
                Err(NvmlError::NotFound) => continue,
                Err(source) => return Err(self.failed("nvmlDeviceGetMigDeviceHandleByIndex")(source)),
            };
            found.extend(unless_gone(device_of(self.nvml, &device, &self.uuid))?);
        }
        found.sort_by_key(|device| (device.gpu_instance, device.compute_instance));
        Ok(found)
    }

    fn read(&self, handle: GpuInstanceHandle<'_>, devices: &[MigDevice]) -> Result<GpuInstance, CallError> {
        let info = raw::gpu_instance_info(self.nvml, handle).map_err(self.failed("nvmlGpuInstanceGetInfo"))?;
        let id = GpuInstanceId(info.id);
        let mut compute_instances = Vec::new();
        for row in self.compute_rows(handle)? {
            let all = raw::compute_instances(self.nvml, handle, row.id.0, row.instance_count);
            for own in all.map_err(self.failed("nvmlGpuInstanceGetComputeInstances"))? {
                let own = raw::compute_instance_info(self.nvml, own);
                let own = unless_gone(own.map_err(self.failed("nvmlComputeInstanceGetInfo_v2")))?;
                compute_instances.extend(own.map(|own| compute_instance(id, &own, devices)));
            }
        }
        compute_instances.sort_by_key(|own| own.id);
        Ok(GpuInstance { id, profile: MigProfileId(info.profile), placement: info.placement, compute_instances })
    }
}

/// A compute instance, with the UUID of the device that it is.
pub(super) fn compute_instance(
    parent: GpuInstanceId,
    info: &ComputeInstanceInfo,
    devices: &[MigDevice],
) -> ComputeInstance {
    let id = ComputeInstanceId(info.id);
    let is = |device: &&MigDevice| (device.gpu_instance, device.compute_instance) == (parent, id);
    let uuid = devices.iter().find(is).map(|device| device.uuid.clone());
    ComputeInstance { id, profile: ComputeProfileId(info.profile), placement: info.placement, uuid }
}

fn device_of(nvml: &Nvml, device: &Device<'_>, gpu: &str) -> Result<MigDevice, CallError> {
    let uuid = device.uuid().map_err(CallError::about("nvmlDeviceGetUUID", gpu))?;
    let gpu_instance =
        raw::gpu_instance_id(nvml, device).map_err(CallError::about("nvmlDeviceGetGpuInstanceId", &uuid))?;
    let compute_instance = raw::compute_instance_id(nvml, device);
    let compute_instance = compute_instance.map_err(CallError::about("nvmlDeviceGetComputeInstanceId", &uuid))?;
    Ok(MigDevice {
        uuid,
        gpu: gpu.to_owned(),
        gpu_instance: GpuInstanceId(gpu_instance),
        compute_instance: ComputeInstanceId(compute_instance),
    })
}

/// `None` for what was destroyed between being named and being looked at.
fn unless_gone<T>(read: Result<T, CallError>) -> Result<Option<T>, CallError> {
    match read {
        Err(error) if error.class() == ErrorClass::Gone => Ok(None),
        read => read.map(Some),
    }
}
