//! Making and destroying instances. Each takes up to a second on real hardware.
//!
//! What cannot be made whole is undone in the call: an instance that its maker does not know would be in the way for
//! ever.

use nvml_wrapper::error::NvmlError;

use super::instance::compute_instance;
use super::{
    ComputeInstance, ComputeInstanceId, ComputeProfileId, GpuInstance, GpuInstanceId, MigGpu, MigProfileId, Placement,
};
use crate::{CallError, raw};

impl MigGpu<'_> {
    /// Makes a GPU instance at a place. It is no MIG device yet: it has no compute instance.
    ///
    /// # Errors
    /// [`ErrorClass::Occupied`](crate::ErrorClass::Occupied) if the place or an engine is taken,
    /// [`ErrorClass::NotSupported`](crate::ErrorClass::NotSupported) while the mode is off,
    /// [`ErrorClass::Permanent`](crate::ErrorClass::Permanent) for a profile or a place that the GPU does not have.
    pub fn create_gpu_instance(&self, profile: MigProfileId, placement: Placement) -> Result<GpuInstance, CallError> {
        let made = raw::create_gpu_instance(self.nvml, &self.device, profile.0, placement);
        let made = made.map_err(self.failed("nvmlDeviceCreateGpuInstanceWithPlacement"))?;
        match raw::gpu_instance_info(self.nvml, made) {
            Ok(info) => Ok(GpuInstance {
                id: GpuInstanceId(info.id),
                profile: MigProfileId(info.profile),
                placement: info.placement,
                compute_instances: Vec::new(),
            }),
            Err(source) => {
                let undone = raw::destroy_gpu_instance(self.nvml, made).map_err(self.failed("nvmlGpuInstanceDestroy"));
                undone.and(Err(self.failed("nvmlGpuInstanceGetInfo")(source)))
            }
        }
    }

    /// Makes a compute instance in a GPU instance, where the driver finds room for it. Its UUID is there.
    ///
    /// # Errors
    /// [`ErrorClass::Gone`](crate::ErrorClass::Gone) if there is no GPU instance with this id,
    /// [`ErrorClass::Occupied`](crate::ErrorClass::Occupied) if it has no room.
    pub fn create_compute_instance(
        &self,
        parent: GpuInstanceId,
        profile: ComputeProfileId,
    ) -> Result<ComputeInstance, CallError> {
        let made = raw::create_compute_instance(self.nvml, self.find(parent)?, profile.0);
        let made = made.map_err(self.failed("nvmlGpuInstanceCreateComputeInstance"))?;
        let read = raw::compute_instance_info(self.nvml, made).map_err(self.failed("nvmlComputeInstanceGetInfo_v2"));
        let read = read.and_then(|info| {
            let own = compute_instance(parent, &info, &self.devices()?);
            let nameless = || self.failed("nvmlDeviceGetMigDeviceHandleByIndex")(NvmlError::NotFound);
            if own.uuid.is_some() { Ok(own) } else { Err(nameless()) }
        });
        read.or_else(|error| {
            let undone = raw::destroy_compute_instance(self.nvml, made);
            undone.map_err(self.failed("nvmlComputeInstanceDestroy")).and(Err(error))
        })
    }

    /// Makes the compute instance that is all of a GPU instance: the usual MIG device.
    ///
    /// # Errors
    /// As [`MigGpu::create_compute_instance`].
    pub fn create_whole_compute_instance(&self, parent: GpuInstanceId) -> Result<ComputeInstance, CallError> {
        // The largest is last, and is all of it.
        let none = || self.failed("nvmlGpuInstanceGetComputeInstanceProfileInfo")(NvmlError::NotSupported);
        let whole = self.compute_profiles(parent)?.pop().ok_or_else(none)?;
        self.create_compute_instance(parent, whole.id)
    }

    /// Destroys a compute instance.
    ///
    /// # Errors
    /// [`ErrorClass::Busy`](crate::ErrorClass::Busy) while a process runs on it,
    /// [`ErrorClass::Gone`](crate::ErrorClass::Gone) if there is none with these ids.
    pub fn destroy_compute_instance(&self, parent: GpuInstanceId, id: ComputeInstanceId) -> Result<(), CallError> {
        let found = raw::compute_instance_by_id(self.nvml, self.find(parent)?, id.0);
        let found = found.map_err(self.failed("nvmlGpuInstanceGetComputeInstanceById"))?;
        raw::destroy_compute_instance(self.nvml, found).map_err(self.failed("nvmlComputeInstanceDestroy"))
    }

    /// Destroys a GPU instance, which must have no compute instance.
    ///
    /// # Errors
    /// [`ErrorClass::Busy`](crate::ErrorClass::Busy) while it has one,
    /// [`ErrorClass::Gone`](crate::ErrorClass::Gone) if there is none with this id.
    pub fn destroy_gpu_instance(&self, id: GpuInstanceId) -> Result<(), CallError> {
        raw::destroy_gpu_instance(self.nvml, self.find(id)?).map_err(self.failed("nvmlGpuInstanceDestroy"))
    }
}
