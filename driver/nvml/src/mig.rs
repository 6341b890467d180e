//! MIG: cutting a GPU into parts that containers can be given.
//!
//! A GPU whose mode is on is cut into GPU instances, which have memory and engines of their own, and each of those into
//! compute instances, which share them. A compute instance is a MIG device: it has a UUID and can be given to a
//! container.
//!
//! Nothing here remembers anything. Instances are looked up by id at each call, since anybody may have destroyed them
//! and made others; ids are given again, UUIDs are not.

mod change;
mod gpu;
mod id;
mod instance;
mod mode;
mod name;
mod profile;

pub use gpu::{GpuProcess, MigGpu};
pub use id::{ComputeInstanceId, ComputeProfileId, GpuInstanceId, MigProfileId, Placement};
pub use instance::{ComputeInstance, GpuInstance, MigDevice};
pub use mode::{MigMode, ModeChange};
pub use profile::{ComputeProfile, MigProfile};
