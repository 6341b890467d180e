//! NVIDIA GPUs: found through NVML, placed by sysfs, handed out as device nodes.

mod containers;
mod discovery;
mod gpu;
mod library;

pub use containers::MissingNode;
pub use discovery::Nvidia;
pub use gpu::Gpu;
