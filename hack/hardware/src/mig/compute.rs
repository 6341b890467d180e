//! How a GPU instance is cut into compute instances. Nothing is tabled per model: it follows from the GPU instance.

use super::instance::{ComputeInstance, Placement};
use crate::model::{GpuInstanceProfile, MigTable};

/// One compute instance profile of a GPU instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComputeInstanceProfile {
    /// What a query takes, `NVML_COMPUTE_INSTANCE_PROFILE_*`, and also the id that a creation takes.
    pub id: u32,
    /// Name without the leading `MIG `.
    pub name: String,
    /// Compute slices.
    pub slices: u32,
    /// Most instances of this profile in the GPU instance.
    pub max: u32,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// First compute slices where an instance may start.
    pub starts: Vec<u32>,
}

/// Slices of a compute instance, and the number NVML has for that (`NVML_COMPUTE_INSTANCE_PROFILE_*_SLICE`).
const SIZES: [(u32, u32); 7] = [(1, 0), (2, 1), (3, 2), (4, 3), (6, 6), (7, 4), (8, 5)];

impl ComputeInstanceProfile {
    /// The profiles of a GPU instance, by id. One with C slices exists in a GPU instance with G of them if it is all of
    /// it or 2C <= G + 1 (`nvidia-smi mig -lcip`).
    pub fn of(table: &MigTable, gpu_instance: &GpuInstanceProfile) -> Vec<Self> {
        let all = gpu_instance.slices;
        let fits = |slices: u32| slices == all || 2 * slices <= all + 1;
        let mut profiles: Vec<Self> = SIZES
            .into_iter()
            .filter(|(slices, _)| fits(*slices))
            .map(|(slices, id)| {
                let starts = starts(slices, all);
                Self {
                    id,
                    name: name(slices, gpu_instance),
                    slices,
                    max: starts.len() as u32,
                    multiprocessors: multiprocessors(slices, table, gpu_instance),
                    starts,
                }
            })
            .collect();
        profiles.sort_by_key(|profile| profile.id);
        profiles
    }

    /// Every place where an instance could lie in an empty GPU instance.
    pub fn placements(&self) -> impl Iterator<Item = Placement> {
        self.starts.iter().map(|start| Placement { start: *start, size: self.slices })
    }

    /// The places where an instance can be made now.
    pub fn free(&self, instances: &[ComputeInstance]) -> Vec<Placement> {
        let taken = |place: &Placement| instances.iter().any(|instance| instance.placement.overlaps(*place));
        self.placements().filter(|place| !taken(place)).collect()
    }
}

/// Slices go in pairs: three of seven start at 0 or 4 (`nvidia-smi mig -lcipp`).
fn starts(slices: u32, all: u32) -> Vec<u32> {
    let step = slices.next_power_of_two() as usize;
    (0..all).step_by(step).filter(|start| start + slices <= all).collect()
}

/// As `nvidia-smi mig -cgi ... -C` prints it: a GPU instance's additions (`+me`) are not in the name.
fn name(slices: u32, gpu_instance: &GpuInstanceProfile) -> String {
    let whole = gpu_instance.name.split(['+', '-']).next().unwrap_or_default();
    if slices == gpu_instance.slices { whole.to_owned() } else { format!("{slices}c.{whole}") }
}

/// A slice has as many as the smallest profile; what is left over belongs to who takes all.
fn multiprocessors(slices: u32, table: &MigTable, gpu_instance: &GpuInstanceProfile) -> u32 {
    if slices == gpu_instance.slices {
        return gpu_instance.multiprocessors;
    }
    let one = table.profiles.iter().filter(|row| row.slices == 1).map(|row| row.multiprocessors).min();
    slices * one.unwrap_or(gpu_instance.multiprocessors / gpu_instance.slices)
}
