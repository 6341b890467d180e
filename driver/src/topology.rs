//! How the accelerators of a node lie to each other, and which of them make good groups.
//!
//! Knows no vendor: each accelerator brings its [`Links`] and its [`Locality`](crate::Locality), and pure functions say
//! what follows. The order in which accelerators are given never matters.

mod closeness;
mod doubling;
mod group;
mod grouping;
mod islands;
mod links;
mod nearest;
mod place;
mod spanning;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use group::{Group, GroupKind};
pub use grouping::groups;
pub use links::{Fabric, FabricDomain, Links};
pub use nearest::nearest;
pub use place::{FabricKind, Place, places};
pub use spanning::SpanningDomain;
