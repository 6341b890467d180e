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
use crate::services::{API_SERVER, is_ready};
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
    let node = &cluster.record.spec.node;
    let extra = Extra { apiserver_arguments: &options.apiserver_arguments, feature_gates: &options.feature_gates };
    let config = cluster.directory.config();
    let mut step = |what: &'static str| report(&Progress::Starting(what, started.elapsed()));

    step("certificates and configuration");
    credentials::write(&config, &node.name, &node.address, SERVICE_ADDRESS)?;
    node_config::write(&config, node, &options.feature_gates)?;

    step("etcd, containerd and the API server");
    start(cluster, "etcd", components::etcd())?;
    start(cluster, "containerd", components::containerd())?;
    start(cluster, API_SERVER, components::apiserver(node, &extra))?;

    step("loading the test image");
    wait_for(cluster, "containerd", "its socket", || {
        Ok(cluster.node_root().join(node_config::CONTAINERD_SOCKET.trim_start_matches('/')).exists())
    })?;
    wait_for(cluster, "containerd", "the test image", || cluster.load_image(parts.image()).map(|()| true))?;

    step("waiting for the API server");
    wait_for(cluster, API_SERVER, "/readyz", || {
        cluster.kubectl_output(&["get", "--raw=/readyz", "--request-timeout=5s"]).map(|_| true)
    })?;

    step("controller manager, scheduler and kubelet");
    start(cluster, "kube-controller-manager", components::controller_manager(&extra))?;
    start(cluster, "kube-scheduler", components::scheduler(&extra))?;
    start(cluster, "kubelet", components::kubelet(node))?;

    step("waiting for the node");
    wait_for(cluster, "kubelet", "a node that is Ready and takes pods", || pods_can_be_made(cluster))?;
    report(&Progress::Ready(started.elapsed()));
    Ok(())
}

fn start(cluster: &Cluster, component: &str, argv: Vec<String>) -> Result<()> {
    cluster.start_service(component, &argv, &[])
}

/// Whether the node is Ready and without its first taint, and the service account of every pod exists.
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
    let not_ready = |taint: &Value| taint["key"] == "node.kubernetes.io/not-ready";
    let node_takes_pods = of_kind("Node")
        .is_some_and(|node| is_ready(node) && !node["spec"]["taints"].as_array().into_iter().flatten().any(not_ready));
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
