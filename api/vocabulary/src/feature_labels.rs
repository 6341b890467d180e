//! The labels of a node by which NVIDIA's GPU feature discovery tells pods what GPUs it has. Those of a resource are its
//! name and one of the suffixes.

/// What resources' labels begin with, where all GPUs are of one kind for pods.
pub const GPU: &str = "nvidia.com/gpu";
/// What the labels of partitions begin with, where they are resources of their own; their profile follows.
pub const PARTITION: &str = "nvidia.com/mig-";

/// Seconds since 1970 at which the labels were written.
pub const TIMESTAMP: &str = "nvidia.com/gfd.timestamp";
/// What the firmware calls the machine.
pub const MACHINE: &str = "nvidia.com/gpu.machine";
/// What the GPUs' PCI class says they are for: `compute`, `graphics` or `unknown`.
pub const MODE: &str = "nvidia.com/gpu.mode";
/// The clique of a fabric that spans nodes, `<UUID of the cluster>.<number>`.
pub const CLIQUE: &str = "nvidia.com/gpu.clique";
/// Whether any GPU can be cut.
pub const MIG_CAPABLE: &str = "nvidia.com/mig.capable";
/// What becomes of partitions, where they are offered: `single` or `mixed`.
pub const MIG_STRATEGY: &str = "nvidia.com/mig.strategy";
/// Whether pods share GPUs by MPS.
pub const MPS_CAPABLE: &str = "nvidia.com/mps.capable";
/// Whether a hypervisor made the GPUs.
pub const VGPU_PRESENT: &str = "nvidia.com/vgpu.present";
/// The version of that hypervisor's driver.
pub const VGPU_HOST_DRIVER_VERSION: &str = "nvidia.com/vgpu.host-driver-version";
/// The branch that it was built from.
pub const VGPU_HOST_DRIVER_BRANCH: &str = "nvidia.com/vgpu.host-driver-branch";

/// The driver's version, whole and in its parts; each part by its old name too.
pub mod driver_version {
    /// As the driver spells it.
    pub const FULL: &str = "nvidia.com/cuda.driver-version.full";
    /// Its first part.
    pub const MAJOR: [&str; 2] = ["nvidia.com/cuda.driver-version.major", "nvidia.com/cuda.driver.major"];
    /// Its second part.
    pub const MINOR: [&str; 2] = ["nvidia.com/cuda.driver-version.minor", "nvidia.com/cuda.driver.minor"];
    /// Its third part, which may be empty.
    pub const REVISION: [&str; 2] = ["nvidia.com/cuda.driver-version.revision", "nvidia.com/cuda.driver.rev"];
}

/// The newest CUDA version that the driver supports, whole and in its parts; each part by its old name too.
pub mod runtime_version {
    /// Major and minor.
    pub const FULL: &str = "nvidia.com/cuda.runtime-version.full";
    /// Its first part.
    pub const MAJOR: [&str; 2] = ["nvidia.com/cuda.runtime-version.major", "nvidia.com/cuda.runtime.major"];
    /// Its second part.
    pub const MINOR: [&str; 2] = ["nvidia.com/cuda.runtime-version.minor", "nvidia.com/cuda.runtime.minor"];
}

/// What comes behind a resource's name.
pub mod suffix {
    /// The product, with what tells a shared or a cut one from others.
    pub const PRODUCT: &str = "product";
    /// How many there are.
    pub const COUNT: &str = "count";
    /// How many pods can have each.
    pub const REPLICAS: &str = "replicas";
    /// How they share it: `none`, `time-slicing` or `mps`.
    pub const SHARING_STRATEGY: &str = "sharing-strategy";
    /// MiB of memory of each.
    pub const MEMORY: &str = "memory";
    /// The family of the architecture, `hopper`.
    pub const FAMILY: &str = "family";
    /// The first part of the CUDA compute capability.
    pub const COMPUTE_MAJOR: &str = "compute.major";
    /// Its second part.
    pub const COMPUTE_MINOR: &str = "compute.minor";
    /// Streaming multiprocessors of a partition.
    pub const MULTIPROCESSORS: &str = "multiprocessors";
    /// Compute slices of a partition's GPU instance.
    pub const GPU_SLICES: &str = "slices.gi";
    /// Compute slices of its compute instance.
    pub const COMPUTE_SLICES: &str = "slices.ci";
    /// Its copy engines.
    pub const COPY_ENGINES: &str = "engines.copy";
    /// Its video decoders.
    pub const DECODERS: &str = "engines.decoder";
    /// Its video encoders.
    pub const ENCODERS: &str = "engines.encoder";
    /// Its JPEG engines.
    pub const JPEG_ENGINES: &str = "engines.jpeg";
    /// Its optical flow accelerators.
    pub const OFA_ENGINES: &str = "engines.ofa";
}
