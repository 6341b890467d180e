//! NVIDIA GPUs: found through NVML, placed by sysfs, handed out as device nodes with the files of the driver.

mod capabilities;
mod containers;
mod cutting;
mod device_nodes;
mod discovery;
mod driver_files;
mod error;
mod function;
mod gpu;
mod handing_out;
mod installation;
mod links;
mod passing;
mod passthrough;
mod remembered;
mod session;
mod vendor;
mod virtual_gpu;
mod workbench;

pub use capabilities::{CapabilityError, MigInstance, mig_capabilities};
pub use containers::PartitionError;
pub use device_nodes::MissingNode;
pub use discovery::{Nvidia, is_on_the_bus};
pub use gpu::Gpu;
pub use installation::LoaderCache;
pub use passthrough::holding_node;
pub use session::Session;
pub use virtual_gpu::{HostDriver, VirtualGpu};
pub use workbench::NvidiaWorkbench;

pub(crate) use device_nodes::SeenNodes;
pub(crate) use function::Function;
pub(crate) use installation::Installation;
