//! The state of a GPU that is cut.

use std::fmt;

use serde::{Deserialize, Serialize};

/// MIG on one GPU.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mig {
    /// Whether the mode is on.
    pub mode: bool,
    /// What it becomes when the GPU is reset; equal to `mode` if nothing waits.
    pub pending: bool,
    /// The GPU instances, by id.
    pub gpu_instances: Vec<GpuInstance>,
}

/// Where an instance lies: of a GPU instance in memory slices of the GPU, of a compute instance in compute slices of
/// its GPU instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Placement {
    /// The first slice.
    pub start: u32,
    /// How many slices.
    pub size: u32,
}

impl Placement {
    /// Whether both have a slice in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.start < other.start + other.size && other.start < self.start + self.size
    }
}

/// As `nvidia-smi mig -lgi` prints it, `4:2`.
impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.start, self.size)
    }
}

/// A part of a GPU with memory and engines of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuInstance {
    /// What the driver calls it; given again after it is destroyed.
    pub id: u32,
    /// Id of the profile it was made by.
    pub profile: u32,
    /// The memory slices it takes.
    pub placement: Placement,
    /// Never given twice on a machine; what a handle stands for.
    pub serial: u64,
    /// Minor number of its capability's device node.
    pub node: u32,
    /// The compute instances, by id.
    pub compute_instances: Vec<ComputeInstance>,
}

/// A part of a GPU instance's multiprocessors. With it a MIG device comes into being.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComputeInstance {
    /// What the driver calls it inside its GPU instance.
    pub id: u32,
    /// Id of the profile it was made by.
    pub profile: u32,
    /// The compute slices it takes of its GPU instance.
    pub placement: Placement,
    /// Never given twice on a machine; what a handle stands for.
    pub serial: u64,
    /// Minor number of its capability's device node.
    pub node: u32,
    /// `MIG-` and a UUID, another one at each creation.
    pub uuid: String,
}
