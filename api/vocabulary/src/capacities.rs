//! The capacities of devices in ResourceSlices.

/// Bytes of device memory, by the name that NVIDIA's own driver uses.
pub const NVIDIA_MEMORY: &str = "memory";

/// Bytes of device memory, by a name that is the same on every vendor.
pub const MEMORY: &str = "tessera.dev/memory";
