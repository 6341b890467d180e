//! The DeviceClasses that are installed with the drivers (`deploy/manifests/device-classes.yaml`).

/// Every whole NVIDIA GPU; the name and the meaning of NVIDIA's own class.
pub const NVIDIA_GPU: &str = "gpu.nvidia.com";

/// Every MIG device; the name and the meaning of NVIDIA's own class.
pub const NVIDIA_MIG: &str = "mig.nvidia.com";

/// Every NVIDIA GPU that can be handed to user space; the name and the meaning of NVIDIA's own class.
pub const NVIDIA_VFIO: &str = "vfio.gpu.nvidia.com";

/// Every group of NVIDIA GPUs.
pub const NVIDIA_GROUP: &str = "group.gpu.nvidia.com";
