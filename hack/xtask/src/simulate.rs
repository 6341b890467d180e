//! `cargo xtask simulate`.

use anyhow::Result;
use clap::Args;

use crate::builds;

/// How long and with what.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many steps.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    steps: usize,
    /// What the events are made of: the same seed, the same events.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Put a bug into the simulated agent, to see it found.
    #[arg(long, value_name = "BUG", hide = true)]
    plant: Option<String>,
    /// Instead of a node's life: how many requests for MIG partitions find room with the order in which devices are
    /// published, beside a naive order and a best fit.
    #[arg(long, conflicts_with_all = ["steps", "plant"])]
    packing: bool,
    /// How many requests come to each node of --packing.
    #[arg(long, value_name = "N", default_value_t = 20_000, requires = "packing")]
    requests: usize,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    builds::cargo(&["build", "--quiet", "--release", "--package", "simulate"])?;
    let mut simulate = std::process::Command::new(builds::directory("release")?.join("simulate"));
    simulate.args(["--seed", &options.seed.to_string()]);
    if options.packing {
        simulate.args(["--packing", "--requests", &options.requests.to_string()]);
        return builds::run(&mut simulate);
    }
    simulate.args(["--steps", &options.steps.to_string()]);
    if let Some(plant) = &options.plant {
        simulate.args(["--plant", plant]);
    }
    builds::run(&mut simulate)
}
