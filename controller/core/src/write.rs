use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use tessera_policy::{DesiredDevice, PartitionPolicyStatus};

use crate::{DomainWrite, NodeName, PolicyName};

/// A write that follows. All but those that make something new are good for one version of an object: the server refuses them once it has
/// another one, and what is to be done then follows from that.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Sets the finalizers of a policy: ours comes before any node has its turn, and goes when no device follows it.
    Finalizers {
        /// Whose.
        policy: PolicyName,
        /// That it must still have.
        resource_version: String,
        /// All of them.
        finalizers: Vec<String>,
    },
    /// Says how far a policy is, and whose turn it is.
    Status {
        /// Whose.
        policy: PolicyName,
        /// That it must still have.
        resource_version: String,
        /// The whole of it.
        status: Box<PartitionPolicyStatus>,
        /// Somebody waits for it: turns or conditions change. What else changes may wait for more to come.
        pressing: bool,
        /// The conditions that become something else by it.
        news: Vec<Condition>,
    },
    /// Makes the NodeLayout of a node, which says nothing yet.
    Create {
        /// Whose.
        node: NodeName,
        /// Of the Node, to which it belongs.
        uid: String,
    },
    /// Says what the devices of a node are to be.
    Layout {
        /// Whose.
        node: NodeName,
        /// That its NodeLayout must still have.
        resource_version: String,
        /// All of its spec.
        devices: Vec<DesiredDevice>,
    },
    /// Changes nothing that means anything, so that no older write can be made any more.
    Fence {
        /// Whose NodeLayout.
        node: NodeName,
        /// That it must still have.
        resource_version: String,
    },
    /// Removes a NodeLayout that nobody needs, or whose Node is gone.
    Delete {
        /// Whose.
        node: NodeName,
        /// Of the NodeLayout.
        uid: String,
        /// That it must still have.
        resource_version: String,
        /// Of the Node that it belonged to, if it is for that one's absence.
        gone: Option<String>,
    },
    /// About a fabric domain that spans nodes.
    Domain(DomainWrite),
}

impl Write {
    /// For logs and metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Finalizers { .. } => "finalizers",
            Self::Status { .. } => "status",
            Self::Create { .. } => "create",
            Self::Layout { .. } => "layout",
            Self::Fence { .. } => "fence",
            Self::Delete { .. } => "delete",
            Self::Domain(write) => write.kind(),
        }
    }
}
