//! Stand-ins for the kubelet and the API server, and a node around them on which the real agent runs.
//!
//! A test makes a [`Node`]: simulated hardware, an [`ApiServer`], a [`Kubelet`] and the agent as a process of its own,
//! all below one temporary directory. Nothing here asserts; what fails here is a broken test ground, and panics.

// For tests: what goes wrong here must end the test, with its place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod api_server;
pub mod cdi_specs;
mod claim;
mod cut_nodes;
pub mod kubelet;
mod node;
pub mod raw;
mod runtime;
mod unix_server;
mod until;

pub use api_server::ApiServer;
pub use claim::Claim;
pub use cut_nodes::CutNodes;
pub use kubelet::{Kubelet, Plugin};
pub use node::{Agent, GPUS, Node, Output, are_whole};
pub use until::{PATIENCE, until};
