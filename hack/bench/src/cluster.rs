//! The real node: it is brought up here, and this program runs itself inside of it.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use cluster::ClusterName;
use simulated_hardware::Machine;
use simulated_node::SimulatedNode;

use crate::figures::{Figures, With};
use crate::floors::NAMESPACE;
use crate::hardware::{DGX, Hardware};

/// The subcommand of this program that measures, inside the node.
pub(crate) const INSIDE: &str = "inside-node";

/// Measures on a node of its own, which is gone afterwards, however this ends.
pub(crate) fn measure(agent: &Path, quick: bool) -> Result<Figures> {
    let name: ClusterName = format!("bench-{}", std::process::id()).parse()?;
    let node = SimulatedNode::up(&cluster::Options::new(name), DGX, &mut report())?;
    let result = measure_on(&node, agent, quick);
    let down = node.down();
    let figures = result?;
    down.map(|()| figures)
}

fn measure_on(node: &SimulatedNode, agent: &Path, quick: bool) -> Result<Figures> {
    let cluster = node.cluster();
    let many = cluster.run_directory().join(Hardware::ManyGpus.directory());
    Machine::create(&many, &Hardware::ManyGpus.profile()?, &simulated_hardware::library()?)?;
    // Half of the claims that are prepared at once are for watching.
    let namespace = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"resource.kubernetes.io/admin-access": "true"}},
    });
    cluster.apply(&namespace.to_string())?;

    let program = std::env::current_exe().context("the path of the bench")?;
    let path = |path: &Path| path.to_str().map(str::to_owned).with_context(|| format!("{path:?} is not UTF-8"));
    let mut argv = vec![path(&program)?, INSIDE.to_owned(), "--agent".to_owned(), path(agent)?];
    if quick {
        argv.push("--quick".to_owned());
    }
    eprintln!("measuring");
    let output = clean(cluster.enter(&argv)).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context("cannot enter the node")?;
    if !output.status.success() {
        bail!("measuring inside the node failed ({}); why stands above", output.status);
    }
    Figures::read(With::Cluster, &String::from_utf8_lossy(&output.stdout))
}

/// Nothing of this process's environment, such as proxies and the kubeconfig of another cluster, goes inside.
fn clean(mut command: Command) -> Command {
    command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command
}

/// A line for each step.
fn report() -> impl FnMut(&cluster::Progress) {
    let mut last = String::new();
    move |step| {
        let step = step.to_string();
        // The beginning tells the step, the rest the seconds.
        if step.get(..12) != last.get(..12) {
            eprintln!("{step}");
        }
        last = step;
    }
}
