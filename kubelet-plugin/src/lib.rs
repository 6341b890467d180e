//! The node agent: publishes a node's accelerators and prepares them for claims.
//!
//! What it decides is in `tessera-core`, as pure functions; what there is to decide about comes from
//! `tessera-driver`. Here are the shells: threads, sockets, files and the API server.

pub mod cli;

mod api;
mod bucket;
mod claims;
mod directories;
mod disk;
mod dra;
mod events;
mod hardware;
mod health;
mod http;
mod inspect;
mod ledger;
mod locks;
mod metrics;
mod notices;
mod pod_resources;
mod precedence;
mod publisher;
mod reconciler;
mod registration;
mod run;
mod sockets;
mod store;
mod works;

pub use inspect::inspect;
pub use run::run;
