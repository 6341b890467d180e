//! The DeviceClasses that are installed with the drivers (`deploy/chart/templates/device-classes.yaml`).

/// Every whole NVIDIA GPU; the name and the meaning of NVIDIA's own class.
pub const NVIDIA_GPU: &str = "gpu.nvidia.com";

/// Every MIG device; the name and the meaning of NVIDIA's own class.
pub const NVIDIA_MIG: &str = "mig.nvidia.com";

/// Every NVIDIA GPU that can be handed to user space; the name and the meaning of NVIDIA's own class.
pub const NVIDIA_VFIO: &str = "vfio.gpu.nvidia.com";

/// Every TPU chip; the name of Google's own class. Of hosts that offer groups it is not every device: who wants all of a
/// node's chips by `allocationMode: All` would ask for each twice.
pub const GOOGLE_TPU: &str = "tpu.google.com";

/// Every group of TPU chips that can be used together, up to the whole host.
pub const GOOGLE_TPU_GROUP: &str = "group.tpu.google.com";

/// Every group of NVIDIA GPUs.
pub const NVIDIA_GROUP: &str = "group.gpu.nvidia.com";

/// One accelerator of any vendor, or a part of one, that says how much memory it has.
pub const ANY_ACCELERATOR: &str = "accelerator.tessera.dev";

/// Every fabric domain that is allocated as one, with the accelerators of all its nodes.
pub const DOMAIN: &str = "domain.tessera.dev";
