//! Simulated accelerators: profiles, the state that processes share, and the files that go with it.
//!
//! A [`Profile`] describes a machine that exists (`dgx-h100.toml` and its neighbours). [`Machine::create`] renders it
//! below a root directory: sysfs, procfs, device nodes and a `libnvidia-ml.so.1` that answers from the same state. The
//! state is one file, [`state_file::NAME`], so a test, the agent and a tool on the command line see one machine.
//!
//! ```no_run
//! use simulated_hardware::{Machine, Profile};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let library = simulated_hardware::library()?;
//! let machine = Machine::create("/tmp/node".as_ref(), &Profile::named("dgx-h100")?, &library)?;
//! machine.run(&["set", "3", "lost=true"])?;
//! # Ok(())
//! # }
//! ```

mod bus;
mod call_record;
pub mod command;
mod error;
mod event;
mod fault;
mod functions;
mod hardware;
mod library;
mod machine;
mod mig;
mod model;
mod nvml_error;
mod pci;
mod process;
mod profile;
mod render;
pub mod state_file;

pub use bus::{Function, Tpu, TpuGeneration};
pub use call_record::{Call, CallRecord};
pub use error::{Error, Result};
pub use event::{Event, EventType};
pub use fault::Fault;
pub use functions::{FUNCTIONS, is_known_to};
pub use hardware::{Bridge, ComputeMode, CudaVersion, Driver, Fabric, FabricState, Gpu, Hardware, NumaNode, Switch};
pub use library::library;
pub use machine::{DeviceNodes, Machine};
pub use mig::{Activation, ComputeInstance, ComputeInstanceProfile, GpuInstance, Mig, Placement};
pub use model::{
    AddressingMode, Architecture, Brand, ComputeCapability, GpuInstanceProfile, Memory, MigTable, Model, PciIdentity,
};
pub use nvml_error::NvmlError;
pub use pci::{PciAddress, PciRoot};
pub use process::Process;
pub use profile::{Profile, ProfileError};
pub use render::SYSFS_BELOW_KERNEL;
