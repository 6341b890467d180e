//! The controller as a process, against a stand-in API server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod classes;
mod domains;
mod ground;
mod leaders;
mod rollouts;
