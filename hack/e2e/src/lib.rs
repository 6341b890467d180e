//! End-to-end tests on a real node: API server, scheduler, kubelet, containerd and runc are the real ones, and pods
//! are judged by what they print and by what the kernel tells them. Only the GPUs are simulated.
//!
//! Most tests share one node and stay out of each other's way in namespaces of their own ([`shared`], [`Team`]); those
//! that break things have a node of their own ([`own`]).

mod calls;
mod events;
mod manifests;
mod team;
mod traffic;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use cluster::{ClusterName, KubernetesVersion, Options};
use simulated_node::{SimulatedCluster, SimulatedNode};

pub use calls::Calls;
pub use events::NodeEvent;
pub use manifests::{claim, container, one_gpu, pod, request, request_of, template};
pub use team::Team;
pub use traffic::{Newest, Traffic};

/// How long anything may take that a node does in a second or two; the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The node that the tests of this process share. It ends with the process, however that ends.
pub fn shared() -> &'static SimulatedNode {
    static NODE: OnceLock<SimulatedNode> = OnceLock::new();
    NODE.get_or_init(|| own("shared", "dgx-h100"))
}

/// A node of one's own, with the agent running and everything published.
pub fn own(name: &str, hardware: &str) -> SimulatedNode {
    own_with(name, hardware, &[])
}

/// The same, with these arguments of the agent besides.
pub fn own_with(name: &str, hardware: &str, arguments: &[&str]) -> SimulatedNode {
    let node = without_agent(name, hardware);
    start_agent(&node, arguments);
    node
}

/// Starts the node's agent as tests have it, with these arguments besides, and waits until it has published.
pub fn start_agent(node: &SimulatedNode, more: &[&str]) {
    let arguments = [&["--rescan", "0.5", "--log", "info,tessera_agent=debug"], more].concat();
    node.agent().start(&arguments).unwrap();
    node.agent().wait_until_ready(PATIENCE).unwrap();
}

/// The version of Kubernetes that the tests run on: `TESSERA_KUBERNETES`, else the newest.
pub fn kubernetes() -> KubernetesVersion {
    std::env::var("TESSERA_KUBERNETES")
        .map_or_else(|_| KubernetesVersion::default(), |version| version.parse().unwrap())
}

/// Whether it has what came by default with 1.36: taints of devices, counters that devices share, extended resources by
/// DRA, the health of devices in the status of pods.
pub fn has_taints_and_more() -> bool {
    kubernetes() >= KubernetesVersion::V1_36
}

/// A node of one's own on which no agent runs.
pub fn without_agent(name: &str, hardware: &str) -> SimulatedNode {
    without_features(name, hardware, &[])
}

/// The same, with these feature gates of Kubernetes off.
pub fn without_features(name: &str, hardware: &str, gates: &[&str]) -> SimulatedNode {
    node_of(name, hardware, gates, if by_chart() { SimulatedNode::bare } else { SimulatedNode::up })
}

/// Whether the agent of the tests is the pod that the chart brings: with `TESSERA_INSTALL=chart`. Else it is a process,
/// which is started in a second less.
pub fn by_chart() -> bool {
    std::env::var("TESSERA_INSTALL").is_ok_and(|how| how == "chart")
}

/// A node of one's own on which nothing of Tessera is installed.
pub fn bare(name: &str, hardware: &str) -> SimulatedNode {
    node_of(name, hardware, &[], SimulatedNode::bare)
}

/// Several nodes, one for each machine of `hardware`, on which nothing of Tessera is installed.
pub fn bare_nodes(name: &str, hardware: &[&str]) -> SimulatedCluster {
    let options = Options { nodes: hardware.len().try_into().unwrap(), ..options(name, &[]) };
    SimulatedCluster::bare(&options, hardware, &mut reported()).unwrap()
}

type Up = fn(&Options, &str, &mut dyn FnMut(&cluster::Progress)) -> anyhow::Result<SimulatedNode>;

fn node_of(name: &str, hardware: &str, gates: &[&str], up: Up) -> SimulatedNode {
    up(&options(name, gates), hardware, &mut reported()).unwrap()
}

fn options(name: &str, gates: &[&str]) -> Options {
    // Two runs on one machine keep apart by their process ids.
    let name: ClusterName = format!("{name}-{}", std::process::id()).parse().unwrap();
    let feature_gates = gates.iter().map(|gate| ((*gate).to_owned(), false)).collect();
    Options { version: kubernetes(), feature_gates, ..Options::new(name) }
}

fn reported() -> impl FnMut(&cluster::Progress) {
    let mut last = String::new();
    move |step| {
        let step = step.to_string();
        // The beginning tells the step, the rest the seconds.
        if step.get(..12) != last.get(..12) {
            eprintln!("{step}");
        }
        last = step;
    }
}

/// Waits until `check` gives a value. `what` says in the failure's text what did not come.
#[track_caller]
pub fn eventually<T>(what: &str, check: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, check)
}

/// The same with a patience of its own.
#[track_caller]
pub fn within<T>(patience: Duration, what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {} s", patience.as_secs());
        std::thread::sleep(Duration::from_millis(200));
    }
}
