mod logs;
mod previous;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use cluster::Cluster;

use crate::SimulatedNode;

pub use previous::Previous;

/// Where the chart is installed.
pub const NAMESPACE: &str = "tessera-system";
pub(crate) const RELEASE: &str = "tessera";
const DAEMON_SET: &str = "daemonset/tessera-agent";
/// What tells the agents' pods from others.
pub(crate) const AGENTS: &str = "app.kubernetes.io/component=agent";

/// What the chart is told on every simulated node.
const VALUES: &str = include_str!("release/values.yaml");

/// The chart on a cluster, as an admin installs it: the agent is a pod of the image that is shipped. What is said of one
/// agent is said of that of the node from which the cluster is seen.
pub struct Release<'a> {
    cluster: &'a Cluster,
}

impl SimulatedNode {
    /// The chart on this node's cluster, installed or not.
    pub fn release(&self) -> Release<'_> {
        Release { cluster: self.cluster() }
    }
}

/// The chart's directory.
pub fn chart() -> Result<PathBuf> {
    let chart = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/chart"));
    chart.canonicalize().with_context(|| format!("finding the chart, {}", chart.display()))
}

impl Release<'_> {
    /// Installs the chart, or upgrades what is installed, with these values (`offer={groups}`), as Helm's `--set` reads
    /// them. Returns before the agent runs; see [`Release::wait_until_ready`].
    pub fn install(&self, settings: &[&str]) -> Result<()> {
        self.load(&crate::image()?)?;
        self.load(&crate::controller_image()?)?;
        self.install_chart(&chart()?, VALUES, settings)
    }

    fn load(&self, image: &Path) -> Result<()> {
        self.cluster.node_names().iter().try_for_each(|node| self.cluster.seen_from(node)?.load_image(image))
    }

    fn install_chart(&self, chart: &Path, values: &str, settings: &[&str]) -> Result<()> {
        let path = self.cluster.run_directory().join("values.yaml");
        fs::write(&path, values).with_context(|| format!("writing {}", path.display()))?;
        self.upgrade(chart, &["--install", "--create-namespace", "--values", "/run/cluster/values.yaml"], settings)
    }

    /// Changes these values of what is installed, and no others.
    pub fn change(&self, settings: &[&str]) -> Result<()> {
        self.upgrade(&chart()?, &["--reuse-values"], settings)
    }

    fn upgrade(&self, chart: &Path, how: &[&str], settings: &[&str]) -> Result<()> {
        let chart = chart.to_str().context("the repository's path is not UTF-8")?;
        let mut arguments = vec!["upgrade", RELEASE, chart, "--namespace", NAMESPACE];
        arguments.extend(how);
        arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        self.cluster.helm_output(&arguments).map(drop)
    }

    /// Goes back to the release before the last upgrade.
    pub fn roll_back(&self) -> Result<()> {
        self.cluster.helm_output(&["rollback", RELEASE, "--namespace", NAMESPACE]).map(drop)
    }

    /// Removes all that the chart brought.
    pub fn uninstall(&self) -> Result<()> {
        self.cluster.helm_output(&["uninstall", RELEASE, "--namespace", NAMESPACE]).map(drop)
    }

    /// Waits until the agents of the last release, on all nodes, are registered and have published, and those before them
    /// have gone.
    pub fn wait_until_ready(&self, timeout: Duration) -> Result<()> {
        let timeout = format!("--timeout={}s", timeout.as_secs());
        let arguments = ["rollout", "status", DAEMON_SET, "--namespace", NAMESPACE, &timeout];
        self.cluster.kubectl_output(&arguments).map(drop).map_err(|error| {
            error.context(format!("the agent does not become ready; its pods and its log:\n{}", self.trouble()))
        })
    }

    /// The instance (the UID of the pod) of the agent that registered a driver with the kubelet last.
    pub fn newest(&self, driver: &str) -> Option<String> {
        let told = format!("registered with the kubelet driver={driver}");
        // Each line begins with its time, in a form that sorts.
        let registered = |log: logs::PodLog| {
            let line = log.text.lines().rfind(|line| line.contains(&told)).map(str::to_owned)?;
            Some((line, log.uid))
        };
        self.logs().into_iter().filter_map(registered).max().map(|(_, uid)| uid)
    }

    /// What a person needs to see when it does not work.
    pub fn trouble(&self) -> String {
        let say = |arguments: &[&str]| {
            let arguments = [arguments, &["--namespace", NAMESPACE]].concat();
            self.cluster.kubectl_output(&arguments).unwrap_or_else(|error| format!("{error:#}\n"))
        };
        [say(&["describe", "pods"]), say(&["logs", DAEMON_SET, "--all-containers", "--tail=20", "--ignore-errors"])]
            .concat()
    }
}
