//! Starting the components in order, and waiting until pods can be made.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::components::{self, Extra, SERVICE_ADDRESS};
use crate::options::Options;
use crate::parts::Parts;
use crate::progress::Progress;
use crate::services::{API_SERVER, CONTROLLER_MANAGER, is_ready};
use crate::{credentials, node_config};

/// Ten times what the slowest step was seen to take on two cores.
const PATIENCE: Duration = Duration::from_secs(90);

/// How often to look again. Each look is a run of kubectl, which takes a tenth of a second of one core.
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) fn bring_up(
    cluster: &Cluster,
    parts: &Parts,
    options: &Options,
    started: Instant,
    report: &mut dyn FnMut(&Progress),
) -> Result<()> {
    let extra = Extra { apiserver_arguments: &options.apiserver_arguments, feature_gates: &options.feature_gates };
    let nodes: Vec<_> = cluster.node_names().into_iter().map(|name| cluster.seen_from(name)).collect::<Result<_>>()?;
    let mut step = |what: &'static str| report(&Progress::Starting(what, started.elapsed()));

    step("certificates and configuration");
    credentials::write(&cluster.spec, SERVICE_ADDRESS)?;
    for node in &nodes {
        node_config::write(&node.directory.config(), &node.node, &options.feature_gates)?;
    }

    step("etcd, containerd and the API server");
    start(cluster, "etcd", components::etcd())?;
    for node in &nodes {
        start(node, "containerd", components::containerd())?;
    }
    start(cluster, API_SERVER, components::apiserver(&cluster.node, &extra))?;

    step("loading the test image");
    for node in &nodes {
        wait_for_runtime(node)?;
        wait_for(node, "containerd", "the test image", || node.load_image(parts.image()).map(|()| true))?;
    }

    step("waiting for the API server");
    wait_for(cluster, API_SERVER, "/readyz", || {
        cluster.kubectl_output(&["get", "--raw=/readyz", "--request-timeout=5s"]).map(|_| true)
    })?;

    step("controller manager, scheduler and kubelet");
    start(cluster, CONTROLLER_MANAGER, components::controller_manager(&extra))?;
    start(cluster, "kube-scheduler", components::scheduler(&extra))?;
    for node in &nodes {
        start(node, "kubelet", components::kubelet(&node.node))?;
    }

    step("waiting for the nodes");
    for node in &nodes {
        wait_for_node(node)?;
    }
    report(&Progress::Ready(started.elapsed()));
    Ok(())
}

/// Starts what a node needs to take pods that has its configuration already, and waits until it does.
pub(crate) fn join(node: &Cluster) -> Result<()> {
    start(node, "containerd", components::containerd())?;
    wait_for_runtime(node)?;
    start(node, "kubelet", components::kubelet(&node.node))?;
    wait_for_node(node)
}

fn start(cluster: &Cluster, component: &str, argv: Vec<String>) -> Result<()> {
    cluster.start_service(component, &argv, &[])
}

fn wait_for_runtime(node: &Cluster) -> Result<()> {
    let socket = node_config::CONTAINERD_SOCKET.trim_start_matches('/');
    wait_for(node, "containerd", "its socket", || Ok(node.node_root().join(socket).exists()))
}

fn wait_for_node(node: &Cluster) -> Result<()> {
    wait_for(node, "kubelet", "a node that is Ready and takes pods", || pods_can_be_made(node))
}

/// Whether the node is Ready since its boot and without its first taint, and the service account of every pod exists.
fn pods_can_be_made(cluster: &Cluster) -> Result<bool> {
    let node = format!("node/{}", cluster.node_name());
    let arguments =
        ["get", node.as_str(), "serviceaccount/default", "--ignore-not-found", "-o=json", "--request-timeout=5s"];
    let text = cluster.kubectl_output(&arguments)?;
    // Nothing is there at all: kubectl prints nothing.
    if text.trim().is_empty() {
        return Ok(false);
    }
    let answer: Value = serde_json::from_str(&text).context("reading kubectl's answer")?;
    let Some(items) = answer["items"].as_array() else { return Ok(false) };
    let of_kind = |kind: &str| items.iter().find(|item| item["kind"] == kind);
    // A node that was away is called Ready for a while as it was before.
    let boot = cluster.boot_id()?;
    let taints = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
    let keeps_pods_away = |taint: &Value| taints.iter().any(|key| taint["key"] == *key);
    let node_takes_pods = of_kind("Node").is_some_and(|node| {
        is_ready(node)
            && node["status"]["nodeInfo"]["bootID"] == boot.as_str()
            && !node["spec"]["taints"].as_array().into_iter().flatten().any(keeps_pods_away)
    });
    Ok(node_takes_pods && of_kind("ServiceAccount").is_some())
}

/// Asks again and again. Gives up when a component has ended or patience has, with the log of the one to blame.
fn wait_for(cluster: &Cluster, component: &str, what: &str, mut question: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = question();
        if matches!(answer, Ok(true)) {
            return Ok(());
        }
        if let Some(dead) = cluster.service_states()?.into_iter().find(|state| state.ended.is_some()) {
            let ended = dead.ended.unwrap_or_default();
            bail!("{} ended with {ended}\n{}", dead.name, log_tail(cluster, &dead.name));
        }
        if Instant::now() >= deadline {
            let seconds = PATIENCE.as_secs();
            let last = answer.err().map(|error| format!("\n{error:#}")).unwrap_or_default();
            bail!("{component}: no {what} within {seconds} s{last}\n{}", log_tail(cluster, component));
        }
        sleep(PAUSE);
    }
}

/// The last lines of a component's log, and where the rest is.
fn log_tail(cluster: &Cluster, component: &str) -> String {
    let path = cluster.service_log(component);
    let text = fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default();
    format!("the end of {}:\n{}", path.display(), last.join("\n"))
}
