//! `cargo xtask cluster agent`, and the agent of `cluster up`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use cluster::Signal;
use simulated_node::{SimulatedCluster, SimulatedNode};

use crate::builds;

/// How long agents may take that take seconds.
pub(super) const READY: Duration = Duration::from_secs(90);

/// How the agent gets onto the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Installation {
    /// As a process beside the kubelet, which `agent` starts and stops.
    Process,
    /// As a pod of its image, by the Helm chart.
    Chart,
}

impl Installation {
    /// As the end-to-end tests read it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Chart => "chart",
        }
    }
}

/// With what the agent is started; one that is started anew needs it again.
#[derive(Debug, Args)]
pub(crate) struct AgentFlags {
    /// What the agent offers besides whole accelerators and the partitions that were made by hand.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    offer: Vec<Offer>,
    /// By which of the kubelet's APIs the node offers its devices [default: dra].
    #[arg(long, value_enum, value_name = "API")]
    api: Option<Api>,
}

/// By which of the kubelet's APIs a node offers its devices. Its own list, as that of [`Offer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Api {
    /// Claims.
    Dra,
    /// Extended resources: nvidia.com/gpu, google.com/tpu.
    DevicePlugin,
    /// Both, each device to whoever asks first.
    Both,
}

/// What an agent offers on demand. Its own list, so that a misspelt word costs no cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Offer {
    /// MIG devices of every profile at every place; Ampere needs `hardware mig GPU on` and `hardware reset GPU` first.
    Partitions,
    /// Whole GPUs for user space, by VFIO; the node gets a kernel that binds and unbinds drivers.
    Passthrough,
    /// Groups of GPUs that lie together.
    Groups,
}

impl AgentFlags {
    /// Starts the agent, and before it the kernel that it needs for what it offers.
    pub(super) fn start(&self, node: &SimulatedNode) -> Result<()> {
        self.boot_kernel(node)?;
        let offers = self.offer.iter().flat_map(|offer| ["--offer", offer.word()]);
        let api = self.api.into_iter().flat_map(|api| ["--api", api.word()]);
        node.agent().start(&offers.chain(api).collect::<Vec<_>>())
    }

    /// The same by the chart, on all nodes, until it is ready.
    pub(super) fn install(&self, cluster: &SimulatedCluster) -> Result<()> {
        for node in cluster.nodes() {
            self.boot_kernel(node)?;
        }
        let offer: Vec<_> = self.offer.iter().map(|offer| offer.word()).collect();
        let mut settings = vec![format!("api={}", self.api.unwrap_or(Api::Dra).word())];
        // Helm takes `{}` for a list of one empty word.
        if !offer.is_empty() {
            settings.push(format!("offer={{{}}}", offer.join(",")));
        }
        cluster.release().install(&settings.iter().map(String::as_str).collect::<Vec<_>>())?;
        cluster.release().wait_until_ready(READY)
    }

    fn boot_kernel(&self, node: &SimulatedNode) -> Result<()> {
        if self.offer.contains(&Offer::Passthrough) && !node.is_kernel_running()? {
            node.boot_kernel(&[])?;
        }
        Ok(())
    }
}

impl Api {
    /// As the agent and the chart read it.
    fn word(self) -> &'static str {
        match self {
            Self::Dra => "dra",
            Self::DevicePlugin => "device-plugin",
            Self::Both => "both",
        }
    }
}

impl Offer {
    /// As the agent and the chart read it.
    fn word(self) -> &'static str {
        match self {
            Self::Partitions => "partitions",
            Self::Passthrough => "passthrough",
            Self::Groups => "groups",
        }
    }
}

/// What to do with the agent.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum AgentAction {
    /// Build it and start it.
    Start,
    /// Tell it to end, and wait.
    Stop,
    /// Kill it without warning.
    Kill,
    /// Print what it wrote.
    Log,
}

/// Does it with the agent of a node.
pub(super) fn run(node: &SimulatedNode, action: AgentAction, flags: &AgentFlags) -> Result<()> {
    match action {
        AgentAction::Start => {
            builds::programs()?;
            flags.start(node)
        }
        AgentAction::Stop => node.agent().stop(Signal::TERM).map(|ended| println!("ended: {ended}")),
        AgentAction::Kill => node.agent().stop(Signal::KILL).map(|ended| println!("ended: {ended}")),
        AgentAction::Log => {
            let path = node.agent().log_path();
            let log = fs::read_to_string(&path).with_context(|| format!("no agent was started: {}", path.display()))?;
            print!("{log}");
            Ok(())
        }
    }
}
