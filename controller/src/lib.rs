//! The cluster's side of Tessera.
//!
//! Any number of replicas run; one of them leads (`lease.rs`). What it decides about partition policies and fabric domains is in
//! `tessera-rollout`, as functions of what is known of the cluster; here are the shells: watches, writes, the lease, HTTP.
//! A leader that is not sure to lead any more ends, and is started again.

pub mod cli;

mod absences;
mod admission;
mod bucket;
mod classes;
mod client;
mod domain_writes;
mod events;
mod http;
mod known_nodes;
mod leading;
mod lease;
mod leftovers;
mod list;
mod metrics;
mod readiness;
mod rollouts;
mod run;
mod slice_watches;
mod watched_node;
mod watches;
mod writes;

pub use run::run;
