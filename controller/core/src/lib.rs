//! What the controller decides about partition policies and fabric domains. No I/O, no clock, no client.
//!
//! A [`Cluster`] is told of policies, nodes and NodeLayouts, as watches tell of them, and says what is to be written
//! ([`Cluster::decide`]). The same view gives the same writes, whoever made it: nothing is remembered but what is in objects.
//!
//! Of each node by itself follow who has which device (`assignment.rs`), how far it is (`progress.rs`) and what would
//! have to be changed (`standing.rs`); these are kept until something of the node changes. Of all nodes together, which are
//! counted as they change (`census.rs`), follow whose turn it is (`turns.rs`) and how far a policy is (`status.rs`). So a decision costs
//! what has changed and what is under way, and not what there is; `from_scratch.rs` holds that it comes to the same. Of the
//! nodes of a fabric domain follows whether it is offered as one device (`domains.rs`).
//!
//! **No more nodes than a policy allows are ever changing, whatever controllers know or do not know.** A node is changed
//! only when it is named in [`PartitionPolicyStatus::turns`](tessera_policy::PartitionPolicyStatus::turns), and these are written under the
//! policy's resourceVersion: of two controllers that give turns, one is refused. A turn names the resourceVersion of the
//! NodeLayout and is good for one write of that very object. So it ends only when the object has moved on and is seen to be
//! settled, by when a late write of another controller fails; a turn that nobody needs any more ends by moving the object
//! on ([`Write::Fence`]).

mod agents;
mod assignment;
mod census;
mod cluster;
mod decide;
mod domains;
mod expression;
mod facts;
#[cfg(test)]
mod from_scratch;
mod names;
mod node;
mod policy;
mod progress;
mod revision;
mod rule;
mod standing;
mod status;
#[cfg(test)]
mod testing;
mod turns;
mod write;

pub use cluster::Cluster;
pub use domains::DomainWrite;
pub use names::{NodeName, PolicyName};
pub use revision::Revision;
pub use rule::expression_faults;
pub use write::Write;
