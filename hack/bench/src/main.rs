//! Measures the agent over its real socket, on simulated hardware: against an API server stand-in in another process, or
//! on a real node.

mod by_count;
mod client;
mod cluster;
mod comparison;
mod controller;
mod figures;
mod floors;
mod ground;
mod hardware;
mod latency;
mod life;
mod memory;
mod neighbour;
mod offers;
mod simulation;
mod stand_in;
mod throughput;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use figures::{Figures, With};
use ground::{BesideStandIn, Ground, InsideNode};
use hardware::Hardware;

/// Measures the agent: new and repeated prepares, prepares per second, start, memory, a slow neighbour, devices by
/// count, the simulation, and what the parts of a prepare cost by themselves in the same run.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The agent to measure; a release build.
    #[arg(long, value_name = "PATH", required = true)]
    agent: Option<PathBuf>,
    /// On a real node with its kubelet and its API server, instead of stand-ins.
    #[arg(long)]
    cluster: bool,
    /// Another agent: both are called in turn, and only what that shows is printed.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["cluster", "json"])]
    against: Option<PathBuf>,
    /// Also write the figures into this file, as one flat JSON object.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fewer samples: a look in seconds, not for comparing.
    #[arg(long)]
    quick: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, Subcommand)]
#[command(subcommand_negates_reqs = true)]
enum Part {
    /// The other process: an API server that is told by stdin what to store.
    #[command(hide = true)]
    ServeApi,
    /// Measures the controller instead: memory, processor time and requests, by the number of nodes.
    Controller {
        /// The controller to measure; a release build.
        #[arg(long, value_name = "PATH")]
        controller: PathBuf,
        /// The most nodes; half and a quarter of them are measured too.
        #[arg(long, default_value_t = 2000, value_name = "NUMBER")]
        nodes: usize,
        /// Also write the figures into this file, as one flat JSON object.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Measures inside a real node, and prints the figures as JSON.
    #[command(hide = true, name = cluster::INSIDE)]
    InsideNode {
        #[arg(long)]
        agent: PathBuf,
        #[arg(long)]
        quick: bool,
    },
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Samples {
    /// New claims, one after the other.
    claims: usize,
    /// Rounds of 64 claims at once.
    rounds: usize,
    /// Starts of the agent.
    starts: usize,
    /// Whether memory after very many claims is measured, which takes most of the time.
    memory: bool,
    /// Steps of the simulation.
    steps: usize,
}

impl Samples {
    const FULL: Self = Self { claims: 400, rounds: 40, starts: 11, memory: true, steps: 200_000 };
    const QUICK: Self = Self { claims: 80, rounds: 8, starts: 3, memory: false, steps: 20_000 };

    fn new(quick: bool) -> Self {
        if quick { Self::QUICK } else { Self::FULL }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.part {
        Some(Part::ServeApi) => stand_in::serve(),
        Some(Part::InsideNode { agent, quick }) => {
            inside_node(agent, *quick).map(|figures| print!("{}", figures.json()))
        }
        Some(Part::Controller { controller, nodes, json }) => {
            controller::measure(controller, *nodes).and_then(|figures| match json {
                None => Ok(()),
                Some(path) => std::fs::write(path, figures).with_context(|| format!("--json {}", path.display())),
            })
        }
        None => measure(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<()> {
    let agent = arguments.agent.as_deref().context("--agent is missing")?;
    let agent = agent.canonicalize().with_context(|| format!("--agent {}", agent.display()))?;
    if let Some(other) = &arguments.against {
        let other = other.canonicalize().with_context(|| format!("--against {}", other.display()))?;
        println!("{}", compare(&agent, &other, Samples::new(arguments.quick))?);
        return Ok(());
    }
    let figures = match arguments.cluster {
        true => cluster::measure(&agent, arguments.quick)?,
        false => beside_stand_in(&agent, arguments.quick)?,
    };
    println!("{}", figures.table());
    if let Some(path) = &arguments.json {
        std::fs::write(path, figures.json()).with_context(|| format!("--json {}", path.display()))?;
    }
    Ok(())
}

fn compare(agent: &Path, other: &Path, samples: Samples) -> Result<comfy_table::Table> {
    let ground = |agent| BesideStandIn::new(agent, Hardware::ManyGpus);
    let mut grounds = [ground(agent)?, ground(other)?];
    runtime()?.block_on(comparison::measure(&mut grounds, samples))
}

fn beside_stand_in(agent: &Path, quick: bool) -> Result<Figures> {
    let ground = async |hardware| BesideStandIn::new(agent, hardware);
    let samples = Samples::new(quick);
    let mut figures = runtime()?.block_on(async {
        let mut figures = measure_on(With::StandIns, samples, ground).await?;
        by_count::measure(agent, samples, &mut figures).await?;
        Ok::<_, anyhow::Error>(figures)
    })?;
    simulation::measure(samples, &mut figures)?;
    Ok(figures)
}

fn inside_node(agent: &Path, quick: bool) -> Result<Figures> {
    let ground = async |hardware| InsideNode::new(agent, hardware).await;
    runtime()?.block_on(measure_on(With::Cluster, Samples::new(quick), ground))
}

/// Everything, on two grounds one after the other.
async fn measure_on<G: Ground>(
    with: With,
    samples: Samples,
    ground: impl AsyncFn(Hardware) -> Result<G>,
) -> Result<Figures> {
    let mut figures = Figures::new(with);
    let mut dgx = ground(Hardware::Dgx).await?;
    life::measure(&mut dgx, samples, &mut figures).await?;
    latency::measure(&mut dgx, samples, &mut figures).await?;
    // Before there are many offers: an agent that takes over a large pool keeps something of it.
    if samples.memory {
        memory::measure(&mut dgx, &mut figures).await?;
    }
    offers::measure(&mut dgx, samples, &mut figures).await?;
    neighbour::measure(&mut dgx, samples, &mut figures).await?;
    drop(dgx);
    let mut many = ground(Hardware::ManyGpus).await?;
    throughput::measure(&mut many, samples, &mut figures).await?;
    Ok(figures)
}

/// One thread: the agent and what it calls are to have the other cores.
fn runtime() -> Result<tokio::runtime::Runtime> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider is installed already"))?;
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
