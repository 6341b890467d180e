//! MIG through this crate, held against other readings of the same simulated machine: the tables of its profile, its
//! state file, and nvml-wrapper.

// Also in helpers of tests, which clippy.toml does not reach.
#![allow(clippy::unwrap_used, clippy::panic)]

mod differential;
mod errors;
mod life;
mod support;
