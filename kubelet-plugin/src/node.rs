//! What the agent has once for its node, however many drivers it serves there.

use kube::Client;
use tessera_driver::tpu::NodeLabels;
use tokio::sync::mpsc;

use crate::cli::{HardwareOptions, RunOptions};
use crate::layouts::NodeLayouts;
use crate::metrics::NodeMetrics;
use crate::notices::Told;
use crate::readiness::Readiness;
use crate::rounds::Rounds;
use crate::uevents::Uevents;

/// What all drivers of the node share.
pub(crate) struct Node {
    /// The name of the Node object.
    pub(crate) name: String,
    /// The boot of the node.
    pub(crate) boot_id: String,
    /// The way to the API server.
    pub(crate) client: Client,
    /// What is counted.
    pub(crate) metrics: NodeMetrics,
    /// Where notices become events.
    pub(crate) events: mpsc::Sender<Told>,
    /// What the kubelet says its pods use.
    pub(crate) rounds: Rounds,
    /// What the kernel tells of devices.
    pub(crate) uevents: Uevents,
    /// What the labels of the Node object say, for those who read them.
    pub(crate) labels: NodeLabels,
    /// What a policy wants of the devices, and what comes of it.
    pub(crate) layouts: NodeLayouts,
    /// How far the drivers are.
    pub(crate) readiness: Readiness,
    /// Where the hardware is found.
    pub(crate) hardware: HardwareOptions,
    /// How it is served.
    pub(crate) options: RunOptions,
}
