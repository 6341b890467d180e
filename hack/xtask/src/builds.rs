//! What cargo builds for the other commands.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use cluster::{KubernetesVersion, Parts, Progress};

use crate::report::Reporter;

/// What a cluster with Tessera on it needs, in the profile that xtask itself was built in.
const PROGRAMS: [&str; 8] =
    ["--package", "tessera-agent", "--package", "fake-nvml", "--package", "cluster", "--package", "simulated-sysfs"];

/// Builds the agent, the simulated NVML, the cluster's supervisor, the simulated kernel and the hook.
pub(crate) fn programs() -> Result<()> {
    let arguments: Vec<_> = ["build"].into_iter().chain(PROGRAMS).collect();
    cargo(&arguments)?;
    simulated_node::hook().map(drop)
}

/// The same, optimised, for measuring, and the controller. All in one: of other packages together the libraries below them may have
/// other features, and each would be built anew.
pub(crate) fn release_programs() -> Result<()> {
    let measured = ["build", "--release", "--package", "bench", "--package", "tessera-controller"];
    let arguments: Vec<_> = measured.into_iter().chain(PROGRAMS).collect();
    cargo(&arguments)?;
    simulated_node::hook().map(drop)
}

/// Builds the parts of a node with this version of Kubernetes, where they were never built.
pub(crate) fn parts_of_nodes(version: KubernetesVersion) -> Result<()> {
    let mut reporter = Reporter::new();
    Parts::ensure(version, &mut |building| reporter.report(&Progress::Building(building.clone())))?;
    Ok(())
}

/// Runs cargo in the root of the repository; its output is its user's.
pub(crate) fn cargo(arguments: &[&str]) -> Result<()> {
    run(Command::new(env!("CARGO")).args(arguments))
}

/// Runs a command in the root of the repository and fails when it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.current_dir(crate::root()?).status().with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed ({status}); what it said stands above");
    }
    Ok(())
}

/// Where a build of the given profile (`debug`, `release`) lies.
pub(crate) fn directory(profile: &str) -> Result<PathBuf> {
    // target/<profile>/xtask
    let xtask = std::env::current_exe().context("the path of xtask")?;
    let target = xtask.ancestors().nth(2).context("xtask lies in no target directory")?;
    Ok(target.join(profile))
}
