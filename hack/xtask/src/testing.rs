//! `cargo xtask test`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use cluster::KubernetesVersion;
use simulated_node::Previous;

use crate::clusters::Installation;
use crate::report::heading;
use crate::tally::Tally;
use crate::{builds, check, prerequisites, previous, specs};

/// Which tests.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only tests whose name contains this; formatting, lints and specs are then left out.
    filter: Option<String>,
    /// The version of Kubernetes for the end-to-end tests; one that was never used is built first.
    #[arg(long, default_value_t, value_name = "VERSION")]
    kubernetes: KubernetesVersion,
    /// How the agent of the end-to-end tests gets onto their nodes.
    #[arg(long, value_enum, default_value = "process", value_name = "HOW")]
    install: Installation,
    /// Also upgrade from the chart and the agent of this revision and go back to them; they are built first, in minutes.
    /// `--previous HEAD~1 from_the_previous_revision` does nothing else.
    #[arg(long, value_name = "REVISION")]
    previous: Option<String>,
}

/// How many tests run at once: most without a cluster wait for the agent's own timeouts rather than compute, while each
/// cluster takes several hundred MiB and a core for seconds.
const WITHOUT_CLUSTER: usize = 8;
const WITH_CLUSTERS: usize = 3;

/// The packages whose tests run on real clusters.
const ON_CLUSTERS: [&str; 2] = ["cluster", "e2e"];

pub(crate) fn run(options: &Options) -> Result<()> {
    let started = Instant::now();
    let filter = options.filter.as_deref();
    prerequisites::ensure()?;
    if filter.is_none() {
        check::run()?;
    }
    heading("Building what the tests run");
    builds::programs()?;
    let previous = options.previous.as_deref().map(previous::build).transpose()?;
    let written = crate::root()?.join("target/cdi-specs");
    if written.exists() {
        fs::remove_dir_all(&written).with_context(|| format!("cannot empty {}", written.display()))?;
    }
    fs::create_dir_all(&written).with_context(|| format!("cannot make {}", written.display()))?;

    heading("Tests without a cluster");
    let mut arguments = vec!["--workspace"];
    arguments.extend(ON_CLUSTERS.iter().flat_map(|package| ["--exclude", *package]));
    let mut tally = cargo_test(&arguments, options, WITHOUT_CLUSTER, &written, None)?;
    if filter.is_none() {
        // Not by the first test that needs them: it would have to know how long that may take.
        heading("The parts of a node; on a new machine Kubernetes and containerd are built, about 12 minutes");
        builds::parts_of_nodes(KubernetesVersion::default())?;
        builds::parts_of_nodes(options.kubernetes)?;
    }
    heading("Tests on real clusters");
    let arguments: Vec<_> = ON_CLUSTERS.iter().flat_map(|package| ["--package", *package]).collect();
    tally = tally + cargo_test(&arguments, options, WITH_CLUSTERS, &written, previous.as_ref())?;
    if filter.is_none() {
        heading("What reference readers say of every CDI spec that a test wrote");
        tally = tally + specs::judge(&written)?;
    }

    println!("\n{} s", started.elapsed().as_secs());
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed > 0 {
        bail!("{} tests failed; their output stands above", tally.failed);
    }
    if tally.passed == 0 {
        bail!("no test has {:?} in its name", filter.unwrap_or_default());
    }
    Ok(())
}

/// Runs `cargo test`, shows what it says and counts its tests.
fn cargo_test(
    arguments: &[&str],
    options: &Options,
    threads: usize,
    specs: &Path,
    previous: Option<&Previous>,
) -> Result<Tally> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--no-fail-fast"]).args(arguments).arg("--").args(&options.filter);
    command.arg(format!("--test-threads={threads}"));
    command
        .env("TESSERA_KUBERNETES", options.kubernetes.as_str())
        .env("TESSERA_INSTALL", options.install.word())
        .env("TESSERA_CDI_COLLECT", specs)
        .envs(previous.map(Previous::variable))
        .current_dir(crate::root()?)
        .stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot run cargo test")?;
    let mut tally = Tally::default();
    for line in BufReader::new(child.stdout.take().context("no output")?).lines() {
        let line = line.context("cargo test's output")?;
        println!("{line}");
        tally = tally + Tally::of_line(&line).unwrap_or_default();
    }
    let status = child.wait().context("cargo test")?;
    if !status.success() && tally.failed == 0 {
        bail!("cargo test failed before or beside its tests ({status}); what it said stands above");
    }
    Ok(tally)
}
