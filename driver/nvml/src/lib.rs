//! NVML as this project uses it: the one home of unsafe code.
//!
//! nvml-wrapper does most of it safely; `raw` holds the calls that it lacks. NVML blocks (milliseconds to
//! seconds), so callers give it a thread of its own; nothing here spawns one.
//!
//! [`Library::gpus`] says what there is, [`Library::links`] how it is linked, [`Library::mig_gpu`] cuts it.

mod error;
mod facts;
mod library;
mod links;
mod mig;
mod raw;

pub use error::{CallError, ErrorClass, OpenError};
pub use facts::{AddressingMode, GpuFacts, Versions};
pub use library::Library;
pub use links::{FabricInfo, FabricState, FarEnd, GpuLinks, NvLink};
pub use mig::{
    ComputeInstance, ComputeInstanceId, ComputeProfile, ComputeProfileId, GpuInstance, GpuInstanceId, GpuProcess,
    MigDevice, MigGpu, MigMode, MigProfile, MigProfileId, ModeChange, Placement,
};
