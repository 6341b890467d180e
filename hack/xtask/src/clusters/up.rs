//! `cargo xtask cluster up`.

use anyhow::Result;
use clap::Args;
use cluster::{KubernetesVersion, Mode};
use simulated_hardware::Profile;
use simulated_node::SimulatedCluster;

use super::Name;
use super::agent::{AgentFlags, Installation, READY};
use crate::report::Reporter;
use crate::{builds, prerequisites};

/// What a cluster is to be like.
#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    name: Name,
    /// How many nodes it has: the first has all of Kubernetes, the others a kubelet and a container runtime.
    #[arg(long, default_value_t = 1, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(1..=i64::from(cluster::MOST_NODES)))]
    nodes: u8,
    /// Simulated hardware: a profile of hack/hardware, or the path of such a file. Once for all nodes, or once for each.
    #[arg(long, default_value = "dgx-h100", value_name = "PROFILE")]
    hardware: Vec<String>,
    /// The version of Kubernetes; one that was never used is built first.
    #[arg(long, default_value_t, value_name = "VERSION")]
    kubernetes: KubernetesVersion,
    /// Start no tessera-agent.
    #[arg(long, conflicts_with_all = ["offer", "api", "install"])]
    no_agent: bool,
    /// How the agents get onto the nodes.
    #[arg(long, value_enum, default_value = "process", value_name = "HOW")]
    install: Installation,
    #[command(flatten)]
    flags: AgentFlags,
}

/// Starts it.
pub(super) fn run(up: &Up) -> Result<()> {
    // Before anything is built: a misspelt profile should not cost minutes.
    for profile in &up.hardware {
        Profile::named_or_at(profile)?;
    }
    prerequisites::ensure()?;
    builds::programs()?;
    let mut options = cluster::Options::new(up.name.name.clone());
    options.version = up.kubernetes;
    options.nodes = up.nodes;
    options.mode = Mode::Detached;
    let mut reporter = Reporter::new();
    let mut report = |step: &cluster::Progress| reporter.report(step);
    if up.install == Installation::Chart {
        let cluster = SimulatedCluster::bare(&options, &up.hardware, &mut report)?;
        up.flags.install(&cluster)?;
    } else {
        let cluster = SimulatedCluster::up(&options, &up.hardware, &mut report)?;
        let agents = if up.no_agent { &[] } else { cluster.nodes() };
        for node in agents {
            up.flags.start(node)?;
        }
        for node in agents {
            node.agent().wait_until_ready(READY)?;
        }
    }
    let name = &up.name.name;
    println!("cluster {name} is up: cargo xtask cluster kubectl --name {name} -- get resourceslices");
    Ok(())
}
