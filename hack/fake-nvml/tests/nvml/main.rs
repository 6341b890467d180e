//! The library as a client sees it: nvml-wrapper loads the built file by path.
//!
//! Cargo builds `libfake_nvml.so` before these tests, since they depend on the crate;
//! [`simulated_hardware::library`] finds it next to the test's executable. Each test has a machine, and so a copy of the
//! library, of its own.

// Also in helpers of tests, which clippy.toml does not reach.
#![allow(clippy::unwrap_used, clippy::panic)]

mod changes;
mod events;
mod faults;
mod memory_of_the_caller;
mod mig;
mod profiles;
mod record;
mod support;
mod threads;
