//! How a cluster's accelerators are to be cut, as two kinds of objects.
//!
//! - [`PartitionPolicy`] is an admin's word: which devices of which nodes get which layout, and how fast. Cluster-scoped.
//! - [`NodeLayout`] is what the controller makes of all policies for one node, under the node's name: its spec is written by
//!   the controller alone, its status by that node's agent alone. An admin reads it to see why a node waits.
//!
//! The two share [`Layout`], and the CustomResourceDefinitions ([`definitions`]) carry the rules that an API server can
//! hold by itself. Nothing here does I/O.

mod layout;
mod node_layout;
mod partition_policy;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube_core::CustomResourceExt;

pub use layout::{Anything, Layout, Mix, Shares};
pub use node_layout::{
    DesiredDevice, DeviceId, DeviceState, NodeLayout, NodeLayoutSpec, NodeLayoutStatus, ReportedDevice,
};
pub use partition_policy::{
    Deadline, Drain, Failure, Order, PartitionPolicy, PartitionPolicySpec, PartitionPolicyStatus, Rollout, Rule, Tally,
    Turn, Which,
};

/// The API group of both kinds.
pub const GROUP: &str = "tessera.dev";

/// Keeps a policy that is deleted until no device has a layout of it any more.
pub const FINALIZER: &str = "tessera.dev/partition-policy";

/// What the API server is to be told before it knows these kinds.
pub fn definitions() -> [CustomResourceDefinition; 2] {
    [PartitionPolicy::crd(), NodeLayout::crd()]
}
