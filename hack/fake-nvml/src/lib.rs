//! A libnvidia-ml.so.1 without a GPU: the C interface of NVML over a simulated machine.
//!
//! The library finds its machine by its own place: the nearest directory above the loaded file that holds
//! `hardware.json` is the root of the machine (see [`simulated_hardware`]). The environment variable
//! `FAKE_NVML_HARDWARE`, the path of that file, overrules it, for where the library was copied or mounted alone. Without
//! a machine, initialisation answers `DRIVER_NOT_LOADED`.
//!
//! Each exported function is its own behaviour, in `api`, inside `call`, the one place that looks at the state of
//! the machine, applies faults and latency, counts, and keeps panics from crossing into C. `abi` is the one place that
//! touches the caller's memory.
//!
//! What is not exported is not there for the caller either, as in an older driver. What is exported, and came with a
//! later driver than the machine's, answers `FUNCTION_NOT_FOUND`: a library that is loaded cannot lose symbols.

// The names are NVML's.
#![allow(non_snake_case, non_upper_case_globals)]

mod abi;
mod api;
mod binding;
mod call;
mod handle;
mod locate;
mod session;
mod view;

#[cfg(test)]
mod exports;
