//! Real Kubernetes nodes with simulated accelerators and Tessera on them: what the demo shows, what `cargo xtask cluster`
//! hands out and what the end-to-end tests run on. Most need one ([`SimulatedNode`]); [`SimulatedCluster`] has several.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cluster::{Cluster, ClusterName, Options, Progress};
use serde_json::Value;
use simulated_hardware::{Machine, Profile};

mod agent;
mod cuda;
mod definitions;
mod image;
mod kernel;
mod manifests;
mod nodes;
mod power;
mod programs;
mod release;
mod static_programs;

pub use agent::Agent;
pub use definitions::definitions;
pub use image::{controller_image, image};
pub use manifests::{Manifests, helm, plain_manifests, render};
pub use nodes::SimulatedCluster;
pub use release::{NAMESPACE, Previous, Release, chart};
pub use static_programs::{controller, hook, static_compiler, static_target};

/// The simulated hardware, in the node's run directory, so that it ends with the cluster.
const HARDWARE: &str = "hardware";

/// Everything of Tessera that an admin installs before the agent. Read when it is needed: what renders them is built with
/// this.
const MANIFESTS: [&str; 5] =
    ["namespace.yaml", "crds.yaml", "agent-rbac.yaml", "admission-policy.yaml", "device-classes.yaml"];

/// A node that is up.
pub struct SimulatedNode {
    cluster: Cluster,
    machine: Machine,
    /// Whether the chart brings the agent.
    by_chart: bool,
}

impl SimulatedNode {
    /// Starts a cluster, gives its node the hardware of a profile and installs what the agent needs, not the agent.
    ///
    /// # Errors
    /// As [`Cluster::up`]; nothing is left behind then.
    pub fn up(options: &Options, profile: &str, report: &mut dyn FnMut(&Progress)) -> Result<Self> {
        let node = Self { by_chart: false, ..Self::bare(options, profile, report)? };
        install_manifests(&node.cluster)?;
        Ok(node)
    }

    /// The same without anything of Tessera: the chart brings it ([`SimulatedNode::release`]), also when its agent is told
    /// to start ([`Agent::start`]).
    ///
    /// # Errors
    /// As [`Cluster::up`]; nothing is left behind then.
    pub fn bare(options: &Options, profile: &str, report: &mut dyn FnMut(&Progress)) -> Result<Self> {
        let profile = Profile::named_or_at(profile)?;
        let library = simulated_hardware::library()?;
        Self::equip(Cluster::up(options, report)?, &profile, &library, true)
    }

    /// Gives the node from which a cluster is seen its hardware.
    fn equip(cluster: Cluster, profile: &Profile, library: &Path, by_chart: bool) -> Result<Self> {
        let machine = Machine::create(&cluster.run_directory().join(HARDWARE), profile, library)?;
        cuda::install(&machine)?;
        Ok(Self { cluster, machine, by_chart })
    }

    /// A node that was started elsewhere, or earlier: the first of its cluster.
    pub fn open(name: &ClusterName) -> Result<Self> {
        Self::opened(Cluster::open(name)?)
    }

    fn opened(cluster: Cluster) -> Result<Self> {
        let machine = Machine::open(&cluster.run_directory().join(HARDWARE))?;
        Ok(Self { cluster, machine, by_chart: false })
    }

    /// The cluster below, seen from this node.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The simulated hardware.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Ends its cluster and removes all that is left of it.
    pub fn down(self) -> Result<()> {
        self.cluster.down()
    }

    /// The ResourceSlices that are published for this node.
    pub fn slices(&self) -> Result<Vec<Value>> {
        let of_node = format!("--field-selector=spec.nodeName={}", self.cluster.node_name());
        let list = self.cluster.kubectl_output(&["get", "resourceslices", "-o", "json", &of_node])?;
        let mut list: Value = serde_json::from_str(&list).context("kubectl's list of slices")?;
        Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    /// Waits until the agent has published this many devices.
    pub fn wait_for_devices(&self, number: usize, timeout: Duration) -> Result<()> {
        let devices = || -> Result<usize> {
            Ok(self.slices()?.iter().map(|slice| slice["spec"]["devices"].as_array().map_or(0, Vec::len)).sum())
        };
        let deadline = Instant::now() + timeout;
        loop {
            let found = devices()?;
            if found == number {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "{found} devices are published after {} s, expected {number}; the agent's log ends with:\n{}",
                    timeout.as_secs(),
                    self.agent().log_end()
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Installs everything of Tessera but the agent.
fn install_manifests(cluster: &Cluster) -> Result<()> {
    for name in MANIFESTS {
        let path = manifests::directory().join(name);
        let manifest = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        cluster.apply(&manifest)?;
    }
    Ok(())
}
