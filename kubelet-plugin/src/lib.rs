//! The node agent: publishes a node's accelerators and prepares them for claims.
//!
//! What it decides is in `tessera-core`, as pure functions; what there is to decide about comes from
//! `tessera-driver`. Here are the shells: threads, sockets, files and the API server.

pub mod cli;

mod api;
mod backends;
mod bell;
mod bucket;
mod claims;
mod device_plugin;
mod directories;
mod disk;
mod dra;
mod driver;
mod errors;
mod events;
mod features;
mod files;
mod hardware;
mod health;
mod http;
mod inspect;
mod labels;
mod layouts;
mod ledger;
mod loans;
mod locks;
mod metrics;
mod node;
mod notices;
mod pod_resources;
mod precedence;
mod publisher;
mod readiness;
mod reconciler;
mod registration;
mod rounds;
mod run;
mod serving;
mod sockets;
mod store;
mod uevents;
mod works;

pub use errors::told;
pub use inspect::inspect;
pub use run::run;
