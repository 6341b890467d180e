//! Making and destroying instances.

use sha2::{Digest, Sha256};

use super::compute::ComputeInstanceProfile;
use super::instance::{ComputeInstance, GpuInstance, Placement};
use super::node;
use crate::hardware::{Gpu, Hardware};
use crate::model::MigTable;
use crate::nvml_error::NvmlError;

impl Hardware {
    /// How the GPU at a position can be cut.
    ///
    /// # Errors
    /// `NOT_SUPPORTED` where it cannot.
    pub fn mig_table(&self, gpu: &Gpu) -> Result<&MigTable, NvmlError> {
        self.model(gpu).and_then(|model| model.mig.as_ref()).ok_or(NvmlError::NOT_SUPPORTED)
    }

    /// The GPU instance with this serial number, and the position of its GPU.
    pub fn gpu_instance(&self, serial: u64) -> Option<(usize, &GpuInstance)> {
        let mut all = self
            .gpus
            .iter()
            .enumerate()
            .flat_map(|(position, gpu)| gpu.mig.gpu_instances.iter().map(move |instance| (position, instance)));
        all.find(|(_, instance)| instance.serial == serial)
    }

    /// The compute instance with this serial number, its GPU instance, and the position of the GPU.
    pub fn compute_instance(&self, serial: u64) -> Option<(usize, &GpuInstance, &ComputeInstance)> {
        let mut all = self.gpus.iter().enumerate().flat_map(|(position, gpu)| {
            let instances = gpu.mig.gpu_instances.iter();
            instances.flat_map(move |parent| parent.compute_instances.iter().map(move |own| (position, parent, own)))
        });
        all.find(|(_, _, own)| own.serial == serial)
    }

    /// Makes a GPU instance and gives back its serial number. Without a placement the driver chooses.
    ///
    /// # Errors
    /// `NOT_SUPPORTED` while the mode is off, `INVALID_ARGUMENT` for a profile or a placement that the GPU does not have,
    /// `INSUFFICIENT_RESOURCES` when slices, engines or the profile's number of instances do not suffice.
    pub fn create_gpu_instance(&mut self, gpu: usize, profile: u32, at: Option<Placement>) -> Result<u64, NvmlError> {
        let found = self.gpus.get(gpu).ok_or(NvmlError::INVALID_ARGUMENT)?;
        let table = self.mig_table(found)?;
        if !found.mig.mode {
            return Err(NvmlError::NOT_SUPPORTED);
        }
        let row = table.profile(profile).ok_or(NvmlError::INVALID_ARGUMENT)?;
        let instances = &found.mig.gpu_instances;
        let placement = match at {
            Some(place) if row.placements().all(|possible| possible != place) => {
                return Err(NvmlError::INVALID_ARGUMENT);
            }
            Some(place) => Some(place).filter(|place| table.free(instances, row).contains(place)),
            None => table.choose(instances, row),
        };
        let placement = placement.ok_or(NvmlError::INSUFFICIENT_RESOURCES)?;
        let id = table.instance_id(placement);
        let node = node::free(self);
        self.last_instance += 1;
        let serial = self.last_instance;
        let instances = &mut self.gpus[gpu].mig.gpu_instances;
        instances.push(GpuInstance { id, profile, placement, serial, node, compute_instances: Vec::new() });
        instances.sort_by_key(|instance| instance.id);
        Ok(serial)
    }

    /// Destroys a GPU instance.
    ///
    /// # Errors
    /// `IN_USE` while it has compute instances, `INVALID_ARGUMENT` if it is gone.
    pub fn destroy_gpu_instance(&mut self, serial: u64) -> Result<(), NvmlError> {
        let (gpu, instance) = self.gpu_instance(serial).ok_or(NvmlError::INVALID_ARGUMENT)?;
        if !instance.compute_instances.is_empty() {
            return Err(NvmlError::IN_USE);
        }
        self.gpus[gpu].mig.gpu_instances.retain(|instance| instance.serial != serial);
        Ok(())
    }

    /// Makes a compute instance in the GPU instance with this serial number and gives back its own. Without a placement
    /// it takes the first free one.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if the GPU instance is gone or has no such profile or placement, `INSUFFICIENT_RESOURCES` when
    /// its compute slices do not suffice.
    pub fn create_compute_instance(
        &mut self,
        gpu_instance: u64,
        profile: u32,
        at: Option<Placement>,
    ) -> Result<u64, NvmlError> {
        let (gpu, parent) = self.gpu_instance(gpu_instance).ok_or(NvmlError::INVALID_ARGUMENT)?;
        let profiles = self.compute_instance_profiles(gpu_instance)?;
        let found = profiles.iter().find(|known| known.id == profile).ok_or(NvmlError::INVALID_ARGUMENT)?;
        let mut free = found.free(&parent.compute_instances).into_iter();
        let placement = match at {
            Some(place) if found.placements().all(|possible| possible != place) => {
                return Err(NvmlError::INVALID_ARGUMENT);
            }
            Some(place) => free.find(|free| *free == place),
            None => free.next(),
        };
        let placement = placement.ok_or(NvmlError::INSUFFICIENT_RESOURCES)?;
        let taken = |id: &u32| parent.compute_instances.iter().any(|own| own.id == *id);
        let id = (0..).find(|id| !taken(id)).ok_or(NvmlError::INSUFFICIENT_RESOURCES)?;
        let serial = self.last_instance + 1;
        let uuid = uuid(&self.gpus[gpu].uuid, parent.id, id, serial);
        let node = node::free(self);
        self.last_instance = serial;
        let parents = &mut self.gpus[gpu].mig.gpu_instances;
        let parent = parents.iter_mut().find(|parent| parent.serial == gpu_instance).ok_or(NvmlError::UNKNOWN)?;
        parent.compute_instances.push(ComputeInstance { id, profile, placement, serial, node, uuid });
        parent.compute_instances.sort_by_key(|own| own.id);
        Ok(serial)
    }

    /// Destroys a compute instance.
    ///
    /// # Errors
    /// `IN_USE` while a process runs on it, `INVALID_ARGUMENT` if it is gone.
    pub fn destroy_compute_instance(&mut self, serial: u64) -> Result<(), NvmlError> {
        let (gpu, parent, own) = self.compute_instance(serial).ok_or(NvmlError::INVALID_ARGUMENT)?;
        let place = Some((parent.id, own.id));
        if self.gpus[gpu].processes.iter().any(|process| process.instance == place) {
            return Err(NvmlError::IN_USE);
        }
        for parent in &mut self.gpus[gpu].mig.gpu_instances {
            parent.compute_instances.retain(|own| own.serial != serial);
        }
        Ok(())
    }

    /// How the GPU instance with this serial number can be cut.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if it is gone.
    pub fn compute_instance_profiles(&self, gpu_instance: u64) -> Result<Vec<ComputeInstanceProfile>, NvmlError> {
        let (gpu, instance) = self.gpu_instance(gpu_instance).ok_or(NvmlError::INVALID_ARGUMENT)?;
        let table = self.mig_table(&self.gpus[gpu])?;
        Ok(ComputeInstanceProfile::of(table, table.profile(instance.profile).ok_or(NvmlError::UNKNOWN)?))
    }
}

/// Looks like those of the driver: a hash, with the marks of a UUID made from a name. Other than the driver's it hashes
/// the serial number too, so no UUID comes twice and nobody can count on an old one.
fn uuid(gpu: &str, gpu_instance: u32, compute_instance: u32, serial: u64) -> String {
    let hash = Sha256::digest(format!("{gpu}/{gpu_instance}/{compute_instance}/{serial}"));
    let mut digits: Vec<u8> = hash.iter().take(16).copied().collect();
    digits[6] = digits[6] & 0x0f | 0x50;
    digits[8] = digits[8] & 0x3f | 0x80;
    let text: String = digits.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("MIG-{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}
