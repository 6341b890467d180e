//! What instances there can be.

use nvml_wrapper::error::NvmlError;

use super::name;
use super::{ComputeProfileId, GpuInstanceId, MigGpu, MigProfileId, Placement};
use crate::CallError;
use crate::error::optional;
use crate::raw::{self, ComputeProfileRow, GpuInstanceHandle, ProfileRow};

/// A way to cut a piece from a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigProfile {
    /// What a creation takes.
    pub id: MigProfileId,
    /// "1g.10gb", "1g.10gb+me", as NVIDIA's tools spell it, without the "MIG " before it. The same part is called
    /// otherwise by other drivers (3g.39gb, 3g.40gb).
    pub name: String,
    /// Compute slices, the number before the g.
    pub slices: u32,
    /// MiB of memory of an instance.
    pub memory_mib: u64,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Copy engines.
    pub copy_engines: u32,
    /// Video decoders (NVDEC).
    pub decoders: u32,
    /// Video encoders (NVENC).
    pub encoders: u32,
    /// JPEG engines.
    pub jpeg_engines: u32,
    /// Optical flow engines.
    pub ofa_engines: u32,
    /// Most instances of it at once on one GPU.
    pub instance_count: u32,
    /// Where an instance can lie on an empty GPU, in memory slices.
    pub placements: Vec<Placement>,
}

/// A way to cut a piece from a GPU instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComputeProfile {
    /// What a creation takes.
    pub id: ComputeProfileId,
    /// Compute slices. The profile with as many as its GPU instance is all of it.
    pub slices: u32,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Most instances of it at once in one GPU instance.
    pub instance_count: u32,
}

/// Query indices of GPU instance profiles (`NVML_GPU_INSTANCE_PROFILE_*`): all that nvml.h has, and room for more.
const INDICES: std::ops::Range<u32> = 0..32;

/// Query indices of compute instance profiles (`NVML_COMPUTE_INSTANCE_PROFILE_*`), likewise.
const COMPUTE_INDICES: std::ops::Range<u32> = 0..16;

/// Second kinds of the smallest and the largest compute instance. They take the same slices; on A100 a GPU instance of
/// seven slices cannot be filled by the latter (NVIDIA's DRA driver, issue 1480).
const COMPUTE_VARIANTS: [u32; 2] = [7, 8];

impl MigGpu<'_> {
    /// What it can be cut into, in the order of NVML's enumeration; empty if it cannot be cut. Also told while the mode
    /// is off.
    ///
    /// # Errors
    /// Whatever NVML answers.
    pub fn profiles(&self) -> Result<Vec<MigProfile>, CallError> {
        self.rows()?.into_iter().map(|(index, row)| self.profile(index, row)).collect()
    }

    /// How many more instances of a profile the GPU has room for.
    ///
    /// # Errors
    /// [`ErrorClass::NotSupported`](crate::ErrorClass::NotSupported) while the mode is off.
    pub fn remaining(&self, profile: MigProfileId) -> Result<u32, CallError> {
        let remaining = raw::remaining(self.nvml, &self.device, profile.0);
        remaining.map_err(self.failed("nvmlDeviceGetGpuInstanceRemainingCapacity"))
    }

    /// What a GPU instance can be cut into, the smallest first. Second kinds of the same size are left out.
    ///
    /// # Errors
    /// [`ErrorClass::Gone`](crate::ErrorClass::Gone) if there is no GPU instance with this id.
    pub fn compute_profiles(&self, parent: GpuInstanceId) -> Result<Vec<ComputeProfile>, CallError> {
        self.compute_rows(self.find(parent)?)
    }

    /// The profiles that the library knows, by query index.
    pub(super) fn rows(&self) -> Result<Vec<(u32, ProfileRow)>, CallError> {
        let found = INDICES.map(|index| (index, raw::profile(self.nvml, &self.device, index)));
        let known = found.filter(|(index, row)| !is_unknown(*index, row.as_ref().err()));
        let failed = |source| self.failed("nvmlDeviceGetGpuInstanceProfileInfo")(source);
        known.map(|(index, row)| Ok((index, row.map_err(failed)?))).collect()
    }

    pub(super) fn compute_rows(&self, parent: GpuInstanceHandle<'_>) -> Result<Vec<ComputeProfile>, CallError> {
        let indices = COMPUTE_INDICES.filter(|index| !COMPUTE_VARIANTS.contains(index));
        let found = indices.map(|index| (index, raw::compute_profile(self.nvml, parent, index)));
        let known = found.filter(|(index, row)| !is_unknown(*index, row.as_ref().err()));
        let failed = |source| self.failed("nvmlGpuInstanceGetComputeInstanceProfileInfo")(source);
        let rows = known.map(|(_, row)| row.map(compute_profile).map_err(failed));
        let mut rows = rows.collect::<Result<Vec<ComputeProfile>, CallError>>()?;
        rows.sort_by_key(|row| row.slices);
        Ok(rows)
    }

    fn profile(&self, index: u32, row: ProfileRow) -> Result<MigProfile, CallError> {
        let told = raw::profile_name(self.nvml, &self.device, index);
        let told = optional("nvmlDeviceGetGpuInstanceProfileInfoV", told).map_err(|error| error.on(&self.uuid))?;
        let name = match told {
            Some(told) => told.trim_start_matches("MIG ").to_owned(),
            None => {
                let memory = self.device.memory_info().map_err(self.failed("nvmlDeviceGetMemoryInfo_v2"))?;
                name::name(index, &row, memory.total)
            }
        };
        let placements = raw::possible_placements(self.nvml, &self.device, row.id);
        Ok(MigProfile {
            id: MigProfileId(row.id),
            name,
            slices: row.slices,
            memory_mib: row.memory_mib,
            multiprocessors: row.multiprocessors,
            copy_engines: row.copy_engines,
            decoders: row.decoders,
            encoders: row.encoders,
            jpeg_engines: row.jpeg_engines,
            ofa_engines: row.ofa_engines,
            instance_count: row.instance_count,
            placements: placements.map_err(self.failed("nvmlDeviceGetGpuInstancePossiblePlacements_v2"))?,
        })
    }
}

/// Whether this part has no such profile, or the library does not know the index. The first index is known to every
/// library: there an invalid argument means the handle.
fn is_unknown(index: u32, error: Option<&NvmlError>) -> bool {
    match error {
        Some(NvmlError::NotSupported) => true,
        Some(NvmlError::InvalidArg) => index > 0,
        _ => false,
    }
}

fn compute_profile(row: ComputeProfileRow) -> ComputeProfile {
    ComputeProfile {
        id: ComputeProfileId(row.id),
        slices: row.slices,
        multiprocessors: row.multiprocessors,
        instance_count: row.instance_count,
    }
}
