use super::FabricDomain;

/// A fabric's domain that spans nodes: accelerators of several nodes reach each other in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanningDomain {
    /// What tells it from others, the same on all of its nodes.
    pub name: FabricDomain,
    /// How many nodes it has when it is complete, where the hardware tells.
    pub nodes: Option<u32>,
}
