use super::Topology;

/// What the agent is told about the node's TPUs by whoever runs it. Each wins over what labels and the instance say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The name of the node: chips have no serial number, so their UUIDs are made of it.
    pub node: String,
    /// The accelerator as GKE names it, `tpu-v5-lite-podslice`.
    pub accelerator: Option<String>,
    /// The topology of the slice that the host is a part of.
    pub topology: Option<Topology>,
    /// Whether the slice's links are resilient to faults.
    pub ici_resiliency: Option<bool>,
    /// What tells this slice from others: the same on all of its hosts.
    pub slice: Option<String>,
    /// The number of this host in the slice.
    pub worker_id: Option<u32>,
    /// The names of all hosts of the slice, in the order of their numbers.
    pub worker_hostnames: Vec<String>,
}
