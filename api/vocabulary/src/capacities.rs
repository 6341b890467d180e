//! The capacities of devices in ResourceSlices.

/// Bytes of device memory, by the name that NVIDIA's own driver uses.
pub const NVIDIA_MEMORY: &str = "memory";

/// Bytes of a TPU's memory, by the name that other vendors' drivers use. Google's own publishes none.
pub const GOOGLE_MEMORY: &str = "memory";
/// The cores of a TPU that multiply matrices.
pub const TENSOR_CORES: &str = "tensorCores";

/// Bytes of device memory, by a name that is the same on every vendor.
pub const MEMORY: &str = "tessera.dev/memory";

/// Streaming multiprocessors of a MIG device, by NVIDIA's name; so are the engines below.
pub const MULTIPROCESSORS: &str = "multiprocessors";
/// Copy engines.
pub const COPY_ENGINES: &str = "copyEngines";
/// Video decoders.
pub const DECODERS: &str = "decoders";
/// Video encoders.
pub const ENCODERS: &str = "encoders";
/// JPEG decoders.
pub const JPEG_ENGINES: &str = "jpegEngines";
/// Optical flow accelerators.
pub const OFA_ENGINES: &str = "ofaEngines";

/// Bytes of device memory of a GPU that is handed to user space, by NVIDIA's name.
pub const ADDRESSABLE_MEMORY: &str = "addressableMemory";

/// How many claims may have a device at once, of one that several may have: each takes one share if it asks for no more.
pub const SHARES: &str = "tessera.dev/shares";

/// How many accelerators are allocated at once.
pub const ACCELERATORS: &str = "tessera.dev/accelerators";
