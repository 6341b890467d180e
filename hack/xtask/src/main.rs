//! Every chore of the project: `cargo xtask --help`.

mod bench;
mod builds;
mod check;
mod clusters;
mod demo;
mod hardware;
mod image;
mod manifests;
mod prerequisites;
mod previous;
mod report;
mod simulate;
mod specs;
mod tally;
mod testing;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Builds, shows, tests and measures Tessera. Run by `cargo xtask`.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what Tessera does: a real one-node Kubernetes, simulated accelerators, a claim, a pod that sees its device.
    Demo(demo::Options),
    /// Run the tests: formatting and lints, every crate, the real cluster, and what the specs' reference readers say.
    Test(testing::Options),
    /// Measure the agent over its real socket.
    Bench(bench::Options),
    /// Simulate a node under random calls, crashes and faults, and check what must hold after each step.
    Simulate(simulate::Options),
    /// Check formatting, lints and dependencies. Part of `test`.
    Check,
    /// Generate the kubelet's protocols anew from their proto files.
    Generate,
    /// Make the images of agent and controller, OCI archives, with their bills of materials.
    Image(image::Options),
    /// Write the CustomResourceDefinitions into the chart, and render it into deploy/manifests.
    Manifests,
    /// Start, look at and end clusters of one or more nodes.
    #[command(subcommand)]
    Cluster(clusters::Command),
    /// Look at and change the simulated hardware of a running cluster's node.
    Hardware(hardware::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Test(options) => testing::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Simulate(options) => simulate::run(&options),
        Command::Check => check::run(),
        Command::Generate => builds::cargo(&["run", "--quiet", "--package", "codegen"]),
        Command::Image(options) => image::run(&options),
        Command::Manifests => manifests::run(),
        Command::Cluster(command) => return clusters::run(command).unwrap_or_else(|error| failed(&error)),
        Command::Hardware(options) => hardware::run(&options),
    };
    result.map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS)
}

fn failed(error: &anyhow::Error) -> ExitCode {
    // Each cause once: many errors quote theirs themselves.
    let mut causes: Vec<String> = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        if !causes.iter().any(|known| known.contains(&cause)) {
            causes.push(cause);
        }
    }
    eprintln!("\ncargo xtask: {}", causes.join(": "));
    ExitCode::FAILURE
}

/// The root of the repository.
fn root() -> Result<std::path::PathBuf> {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(here.join("../..").canonicalize()?)
}
