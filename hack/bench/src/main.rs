//! Measures the agent over its real socket, against an API server stand-in in another process and simulated hardware.

mod figures;
mod floors;
mod ground;
mod latency;
mod life;
mod many_gpus;
mod stand_in;
mod throughput;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use figures::Figures;
use ground::Ground;

/// Measures the agent: new and repeated prepares, prepares per second, start, memory, and what the parts of a prepare
/// cost by themselves in the same run.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The agent to measure; a release build.
    #[arg(long, value_name = "PATH", required = true)]
    agent: Option<PathBuf>,
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
}

impl Samples {
    const FULL: Self = Self { claims: 400, rounds: 40, starts: 11 };
    const QUICK: Self = Self { claims: 80, rounds: 8, starts: 3 };
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.part {
        Some(Part::ServeApi) => stand_in::serve(),
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
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider is installed already"))?;
    let agent = arguments.agent.as_deref().context("--agent is missing")?;
    let agent = agent.canonicalize().with_context(|| format!("--agent {}", agent.display()))?;
    let samples = if arguments.quick { Samples::QUICK } else { Samples::FULL };
    // One thread: the agent and the stand-in are to have the other cores.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let figures = runtime.block_on(async {
        let mut figures = Figures::default();
        let mut ground = Ground::new(&agent, &simulated_hardware::Profile::named("dgx-h100")?)?;
        life::measure(&mut ground, samples, &mut figures).await?;
        latency::measure(&mut ground, samples, &mut figures).await?;
        drop(ground);
        let mut ground = Ground::new(&agent, &many_gpus::profile()?)?;
        throughput::measure(&mut ground, samples, &mut figures).await?;
        anyhow::Ok(figures)
    })?;
    println!("{}", figures.table());
    if let Some(path) = &arguments.json {
        std::fs::write(path, figures.json()).with_context(|| format!("--json {}", path.display()))?;
    }
    Ok(())
}
