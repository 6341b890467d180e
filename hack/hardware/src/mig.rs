//! MIG: what a GPU is cut into, and the rules by which it is cut.
//!
//! The state is part of [`crate::Hardware`]; the operations are methods of it, so that the library, the command line
//! and a test cut by the same rules. They answer with NVML's own errors and change nothing when they fail.

mod change;
mod compute;
mod instance;
mod life;
mod node;
mod placement;
#[cfg(test)]
mod tests;

pub use compute::ComputeInstanceProfile;
pub use instance::{ComputeInstance, GpuInstance, Mig, Placement};
pub use life::Activation;
pub(crate) use node::{CONFIG, MONITOR, is_free};
