//! The accelerators of a node: what there is and how it is handed to a container.
//!
//! Knows no Kubernetes: what it finds is plain data that others publish and prepare. Everything is read below a
//! [`Root`], so that a test hands it a tree of its own. Calls block, and may block for long when hardware is sick:
//! give a backend a thread of its own.

mod accelerator;
mod backend;
mod host;
mod kind;
mod partitioning;
mod root;
mod sysfs;
mod vendor;
mod version;
mod work;

pub mod nvidia;
pub mod topology;
pub mod tpu;
pub mod vfio;

pub use accelerator::{Accelerator, AttributeValue, Facts, Locality};
pub use backend::{Backend, Discovery, DiscoveryError};
pub use host::Host;
pub use kind::AcceleratorKind;
pub use partitioning::{Made, Partition, Partitioning, Placement, Resources, Shape};
pub use root::Root;
pub use vendor::{Attributes, Capacities, Unavailable, Vendor};
pub use work::{NoWork, Outcome, Work, WorkError, Workbench};
