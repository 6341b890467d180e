//! `cargo xtask cluster`.

use std::fs;
use std::path::PathBuf;
use std::process::{Command as Process, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use cluster::{Cluster, ClusterName, KubernetesVersion, Mode, Signal};
use simulated_hardware::Profile;
use simulated_node::SimulatedNode;

use crate::report::Reporter;
use crate::{builds, prerequisites};

/// The cluster that is meant when none is named.
pub(crate) const DEFAULT_NAME: &str = "main";

/// How long an agent may take that takes seconds.
const READY: Duration = Duration::from_secs(60);

/// What to do with clusters.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a cluster that lives until `down`.
    Up(Up),
    /// Show which clusters are up and how they are.
    Status {
        /// Only this one.
        #[arg(long)]
        name: Option<ClusterName>,
    },
    /// End a cluster and remove all that is left of it.
    Down(Name),
    /// Run kubectl as admin.
    Kubectl {
        #[command(flatten)]
        name: Name,
        /// kubectl's arguments.
        #[arg(last = true, required = true)]
        arguments: Vec<String>,
    },
    /// Run helm as admin.
    Helm {
        #[command(flatten)]
        name: Name,
        /// helm's arguments.
        #[arg(last = true, required = true)]
        arguments: Vec<String>,
    },
    /// Run a command inside the node: its mounts, network and processes.
    Enter {
        #[command(flatten)]
        name: Name,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Load an OCI archive into the node's containerd.
    Load {
        #[command(flatten)]
        name: Name,
        /// The archive.
        image: PathBuf,
    },
    /// Start, stop or kill the node's tessera-agent, or print its log.
    Agent {
        #[command(flatten)]
        name: Name,
        /// What to do.
        action: AgentAction,
        #[command(flatten)]
        flags: AgentFlags,
    },
    /// Do something to the node's kubelet.
    Kubelet {
        #[command(flatten)]
        name: Name,
        /// What to do.
        action: KubeletAction,
    },
    /// Take the API server away for a while.
    ApiServer {
        #[command(flatten)]
        name: Name,
        /// What to do.
        action: ApiServerAction,
    },
}

/// Which cluster.
#[derive(Debug, Args)]
pub(crate) struct Name {
    /// The cluster.
    #[arg(long, default_value = DEFAULT_NAME)]
    name: ClusterName,
}

/// What a cluster is to be like.
#[derive(Debug, Args)]
pub(crate) struct Up {
    #[command(flatten)]
    name: Name,
    /// Its node's simulated hardware: a profile of hack/hardware, or the path of such a file.
    #[arg(long, default_value = "dgx-h100", value_name = "PROFILE")]
    hardware: String,
    /// The version of Kubernetes; one that was never used is built first.
    #[arg(long, default_value_t, value_name = "VERSION")]
    kubernetes: KubernetesVersion,
    /// Do not start tessera-agent.
    #[arg(long, conflicts_with_all = ["offer", "api", "install"])]
    no_agent: bool,
    /// How the agent gets onto the node.
    #[arg(long, value_enum, default_value = "process", value_name = "HOW")]
    install: Installation,
    #[command(flatten)]
    flags: AgentFlags,
}

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
    fn start(&self, node: &SimulatedNode) -> Result<()> {
        self.boot_kernel(node)?;
        let offers = self.offer.iter().flat_map(|offer| ["--offer", offer.word()]);
        let api = self.api.into_iter().flat_map(|api| ["--api", api.word()]);
        node.agent().start(&offers.chain(api).collect::<Vec<_>>())
    }

    /// The same by the chart, until it is ready.
    fn install(&self, node: &SimulatedNode) -> Result<()> {
        self.boot_kernel(node)?;
        let offer: Vec<_> = self.offer.iter().map(|offer| offer.word()).collect();
        let api = self.api.unwrap_or(Api::Dra).word();
        node.release().install(&[&format!("offer={{{}}}", offer.join(",")), &format!("api={api}")])?;
        node.release().wait_until_ready(READY)
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

/// What to do with the kubelet.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum KubeletAction {
    /// End it and start it again; pods go on.
    Restart,
}

/// What to do with the API server.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ApiServerAction {
    /// Start it as it was; it takes seconds until it answers.
    Start,
    /// End it; what it stores stays, and pods go on.
    Stop,
}

pub(crate) fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up(up) => start(&up)?,
        Command::Status { name } => status(name)?,
        Command::Down(Name { name }) => Cluster::open(&name)?.down()?,
        Command::Kubectl { name, arguments } => {
            return interactive(&mut Cluster::open(&name.name)?.kubectl(&arguments));
        }
        Command::Helm { name, arguments } => {
            return interactive(&mut Cluster::open(&name.name)?.helm(&arguments));
        }
        Command::Enter { name, command } => return interactive(&mut Cluster::open(&name.name)?.enter(&command)),
        Command::Load { name, image } => Cluster::open(&name.name)?.load_image(&image)?,
        Command::Agent { name, action, flags } => agent(&name.name, action, &flags)?,
        Command::Kubelet { name, action: KubeletAction::Restart } => Cluster::open(&name.name)?.restart_kubelet()?,
        Command::ApiServer { name, action: ApiServerAction::Start } => Cluster::open(&name.name)?.start_api_server()?,
        Command::ApiServer { name, action: ApiServerAction::Stop } => Cluster::open(&name.name)?.stop_api_server()?,
    }
    Ok(ExitCode::SUCCESS)
}

fn start(up: &Up) -> Result<()> {
    // Before anything is built: a misspelt profile should not cost minutes.
    Profile::named_or_at(&up.hardware)?;
    prerequisites::ensure()?;
    builds::programs()?;
    let mut options = cluster::Options::new(up.name.name.clone());
    options.version = up.kubernetes;
    options.mode = Mode::Detached;
    let mut reporter = Reporter::new();
    let mut report = |step: &cluster::Progress| reporter.report(step);
    if up.install == Installation::Chart {
        let node = SimulatedNode::bare(&options, &up.hardware, &mut report)?;
        up.flags.install(&node)?;
    } else {
        let node = SimulatedNode::up(&options, &up.hardware, &mut report)?;
        if !up.no_agent {
            up.flags.start(&node)?;
            node.agent().wait_until_ready(READY)?;
        }
    }
    let name = &up.name.name;
    println!("cluster {name} is up: cargo xtask cluster kubectl --name {name} -- get resourceslices");
    Ok(())
}

fn status(name: Option<ClusterName>) -> Result<()> {
    let names = match name {
        Some(name) => vec![name],
        None => Cluster::list()?,
    };
    if names.is_empty() {
        println!("no cluster is up; start one: cargo xtask cluster up");
    }
    for name in names {
        let cluster = Cluster::open(&name)?;
        let status = cluster.status()?;
        let ready = if status.node_ready { "ready" } else { "not ready" };
        println!("{name}: Kubernetes {}, node {} is {ready}", cluster.version()?, status.node);
        for service in status.services {
            let state = match (service.pid, service.ended) {
                (Some(pid), _) => format!("pid {pid}"),
                (None, Some(ended)) => format!("ended ({ended})"),
                (None, None) => "gone".to_owned(),
            };
            println!("  {:<24} {state:<24} {}", service.name, service.log.display());
        }
    }
    Ok(())
}

fn agent(name: &ClusterName, action: AgentAction, flags: &AgentFlags) -> Result<()> {
    let node = SimulatedNode::open(name)?;
    match action {
        AgentAction::Start => {
            builds::programs()?;
            flags.start(&node)
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

/// Hands the terminal to a command and its exit code to the caller.
fn interactive(command: &mut Process) -> Result<ExitCode> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
