//! NVML as this project uses it: the one home of unsafe code.
//!
//! nvml-wrapper does most of it safely; `raw` holds the calls that it lacks. NVML blocks (milliseconds to
//! seconds), so callers give it a thread of its own; nothing here spawns one.

mod error;
mod facts;
mod library;
mod raw;

pub use error::{CallError, OpenError};
pub use facts::{AddressingMode, GpuFacts, Versions};
pub use library::Library;
