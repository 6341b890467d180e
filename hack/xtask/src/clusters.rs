//! `cargo xtask cluster`.

mod agent;
mod up;

use std::path::PathBuf;
use std::process::{Command as Process, ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use cluster::{Cluster, ClusterName};
use simulated_node::{SimulatedCluster, SimulatedNode};

pub(crate) use agent::Installation;
use agent::{AgentAction, AgentFlags};

/// The cluster that is meant when none is named.
pub(crate) const DEFAULT_NAME: &str = "main";

/// What to do with clusters.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a cluster that lives until `down`.
    Up(up::Up),
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
    /// Run a command inside a node: its mounts, network and processes.
    Enter {
        #[command(flatten)]
        of: NodeOf,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Load an OCI archive into the containerd of each node.
    Load {
        #[command(flatten)]
        name: Name,
        /// The archive.
        image: PathBuf,
    },
    /// Start, stop or kill a node's tessera-agent, or print its log.
    Agent {
        #[command(flatten)]
        of: NodeOf,
        /// What to do.
        action: AgentAction,
        #[command(flatten)]
        flags: AgentFlags,
    },
    /// Do something to a node's kubelet.
    Kubelet {
        #[command(flatten)]
        of: NodeOf,
        /// What to do.
        action: KubeletAction,
    },
    /// Take a node's power away, or give it back; not the first one's, which has all of Kubernetes.
    Power {
        #[command(flatten)]
        of: NodeOf,
        /// What to do.
        action: PowerAction,
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

/// Which node of which cluster.
#[derive(Debug, Args)]
pub(crate) struct NodeOf {
    /// The cluster.
    #[arg(long, default_value = DEFAULT_NAME)]
    name: ClusterName,
    /// The node.
    #[arg(long, default_value = cluster::NODE)]
    node: String,
}

impl NodeOf {
    fn seen(&self) -> Result<Cluster> {
        Cluster::open(&self.name)?.seen_from(&self.node)
    }

    /// The node with its hardware.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&SimulatedNode) -> Result<R>) -> Result<R> {
        work(SimulatedCluster::open(&self.name)?.node(&self.node)?)
    }
}

/// What to do with a node's power.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum PowerAction {
    /// Everything on it ends without a word.
    Off,
    /// It boots; an agent that is no pod is to be started again.
    On,
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
        Command::Up(up) => up::run(&up)?,
        Command::Status { name } => status(name)?,
        Command::Down(Name { name }) => Cluster::open(&name)?.down()?,
        Command::Kubectl { name, arguments } => {
            return interactive(&mut Cluster::open(&name.name)?.kubectl(&arguments));
        }
        Command::Helm { name, arguments } => {
            return interactive(&mut Cluster::open(&name.name)?.helm(&arguments));
        }
        Command::Enter { of, command } => return interactive(&mut of.seen()?.enter(&command)),
        Command::Load { name, image } => {
            let cluster = Cluster::open(&name.name)?;
            for node in cluster.node_names() {
                cluster.seen_from(node)?.load_image(&image)?;
            }
        }
        Command::Agent { of, action, flags } => of.with(|node| agent::run(node, action, &flags))?,
        Command::Kubelet { of, action: KubeletAction::Restart } => of.seen()?.restart_kubelet()?,
        Command::Power { of, action: PowerAction::Off } => of.with(SimulatedNode::power_off)?,
        Command::Power { of, action: PowerAction::On } => of.with(SimulatedNode::power_on)?,
        Command::ApiServer { name, action: ApiServerAction::Start } => Cluster::open(&name.name)?.start_api_server()?,
        Command::ApiServer { name, action: ApiServerAction::Stop } => Cluster::open(&name.name)?.stop_api_server()?,
    }
    Ok(ExitCode::SUCCESS)
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
        println!("{name}: Kubernetes {}", cluster.version()?);
        for node in cluster.node_names() {
            let seen = cluster.seen_from(node)?;
            if !seen.is_node_up() {
                println!("  {node} is away");
                continue;
            }
            let status = seen.status()?;
            println!("  {node} is {}", if status.node_ready { "ready" } else { "not ready" });
            for service in status.services {
                let state = match (service.pid, service.ended) {
                    (Some(pid), _) => format!("pid {pid}"),
                    (None, Some(ended)) => format!("ended ({ended})"),
                    (None, None) => "gone".to_owned(),
                };
                println!("    {:<24} {state:<24} {}", service.name, service.log.display());
            }
        }
    }
    Ok(())
}

/// Hands the terminal to a command and its exit code to the caller.
fn interactive(command: &mut Process) -> Result<ExitCode> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
