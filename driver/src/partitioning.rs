use std::fmt;

use serde::{Deserialize, Serialize};

/// How an accelerator can be cut into partitions, and how it is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partitioning {
    /// Whether it is in the mode in which it has partitions, and cannot be used as a whole.
    pub cut: bool,
    /// Whether the mode can be switched while the node runs.
    pub switchable: bool,
    /// What it can be cut into, in the order of the driver.
    pub shapes: Vec<Shape>,
    /// What it has been cut into, by whomever.
    pub partitions: Vec<Partition>,
}

/// A shape that partitions can have: a profile, in NVIDIA's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The driver's number for it.
    pub id: u32,
    /// What people call it: `1g.10gb`.
    pub name: String,
    /// Where a partition of it can lie.
    pub placements: Vec<Placement>,
    /// How many partitions of it an accelerator can have at once.
    pub at_most: u32,
    /// What each has.
    pub resources: Resources,
}

/// What a partition has of its accelerator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Device memory in bytes.
    pub memory_bytes: u64,
    /// Compute slices; NVIDIA: the number before the g.
    pub compute_slices: u32,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Copy engines.
    pub copy_engines: u32,
    /// Video decoders.
    pub decoders: u32,
    /// Video encoders.
    pub encoders: u32,
    /// JPEG decoders.
    pub jpeg_engines: u32,
    /// Optical flow accelerators.
    pub ofa_engines: u32,
}

/// Which of its accelerator's memory slices a partition lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Placement {
    /// The first.
    pub start: u32,
    /// How many.
    pub size: u32,
}

/// A partition that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The [`Shape::id`] of its shape.
    pub shape: u32,
    /// Where it lies.
    pub placement: Placement,
    /// What containers use of it. `None` while it is half made, and when it is cut further, which nobody offers.
    pub made: Option<Made>,
}

/// How a partition is known to the driver. Given anew each time that one is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// NVIDIA: the GPU instance.
    pub gpu_instance: u32,
    /// NVIDIA: the compute instance in it.
    pub compute_instance: u32,
    /// The UUID that programs choose it by, `MIG-…`.
    pub uuid: String,
}

impl Partitioning {
    /// The shape of an id.
    pub fn shape(&self, id: u32) -> Option<&Shape> {
        self.shapes.iter().find(|shape| shape.id == id)
    }

    /// How many memory slices the accelerator has: as many as its largest shape takes.
    pub fn slices(&self) -> u32 {
        let ends = self.shapes.iter().flat_map(|shape| &shape.placements).map(|placement| placement.end());
        ends.max().unwrap_or_default()
    }
}

impl Placement {
    /// The slice after its last.
    pub fn end(self) -> u32 {
        self.start.saturating_add(self.size)
    }

    /// Whether two partitions cannot be there at once.
    pub fn overlaps(self, other: Self) -> bool {
        self.start < other.end() && other.start < self.end()
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.start, self.size)
    }
}
