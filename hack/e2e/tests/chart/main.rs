//! The chart: what it renders, and Tessera installed by it on a real node, as a pod of the image that is shipped.

// Also in what the tests share, which clippy.toml does not reach.
#![allow(clippy::unwrap_used)]

mod admission;
mod domains;
mod examples;
mod flags;
mod installation;
mod nodes;
mod policies;
mod previous;
mod registered;
mod rendering;
mod schemas;
mod server;
