//! `cargo xtask bench`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::{builds, prerequisites};

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Against a real node and its API server instead of a stand-in; keys begin with `cluster_`.
    #[arg(long)]
    cluster: bool,
    /// Another build of tessera-agent: both are called in turn, which shows what a change is worth on a noisy machine.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["cluster", "json"])]
    against: Option<PathBuf>,
    /// Measure the controller instead, beside a stand-in API server and agents; keys begin with `controller_`.
    #[arg(long, conflicts_with_all = ["cluster", "against", "quick"])]
    controller: bool,
    /// How many nodes the controller is measured with; half and a quarter of them too.
    #[arg(long, default_value_t = 2000, value_name = "NUMBER", requires = "controller")]
    nodes: usize,
    /// Fewer samples.
    #[arg(long)]
    quick: bool,
    /// Also write the figures into this file, as one flat JSON object.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if options.controller {
        return run_controller(options);
    }
    if options.cluster {
        prerequisites::ensure()?;
    }
    builds::release_programs()?;
    let directory = builds::directory("release")?;
    let mut bench = Command::new(directory.join("bench"));
    bench.arg("--agent").arg(directory.join("tessera-agent"));
    if options.cluster {
        bench.arg("--cluster");
    }
    if let Some(path) = &options.against {
        bench.arg("--against").arg(std::path::absolute(path)?);
    }
    if options.quick {
        bench.arg("--quick");
    }
    if let Some(path) = &options.json {
        bench.arg("--json").arg(std::path::absolute(path)?);
    }
    builds::run(&mut bench)
}

fn run_controller(options: &Options) -> Result<()> {
    builds::release_programs()?;
    let directory = builds::directory("release")?;
    let mut bench = Command::new(directory.join("bench"));
    bench.arg("controller").arg("--controller").arg(directory.join("tessera-controller"));
    bench.args(["--nodes", &options.nodes.to_string()]);
    if let Some(path) = &options.json {
        bench.arg("--json").arg(std::path::absolute(path)?);
    }
    builds::run(&mut bench)
}
