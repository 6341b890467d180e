//! The agent as a pod of the chart.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cluster::Signal;
use serde_json::Value;

use super::{AT_WORK, Agent, STARTED, of_each_driver, values};
use crate::release::{AGENTS, NAMESPACE};

/// With an image to load and a pod to make, on a busy machine.
const START: Duration = Duration::from_secs(90);
const STOP: Duration = Duration::from_secs(60);

/// What keeps the DaemonSet from the node.
const STOPPED: &str = "agent.nodeSelector.stopped=by-hand";

impl Agent<'_> {
    /// Installs the chart with what the flags of an agent are called there.
    pub(super) fn start_pod(&self, arguments: &[&str]) -> Result<()> {
        let release = self.node.release();
        let earlier: Vec<String> = release.logs().into_iter().map(|log| log.uid).collect();
        let settings = values::of(arguments, self.node.cluster.run_directory())?;
        release.install(&settings.iter().map(String::as_str).collect::<Vec<_>>())?;
        self.wait(START, "no agent has started", || {
            let new = release.logs().into_iter().filter(|log| !earlier.contains(&log.uid));
            let at_work = |said: String| said.contains(STARTED) && of_each_driver(&said, AT_WORK);
            Ok(new.map(|log| log.said()).any(at_work))
        })
    }

    /// Takes it off the node, and its like off all others. One that is to be killed is frozen first, so that it does nothing more while its pod is taken
    /// away: the kubelet would start a container that is only killed again at once.
    pub(super) fn stop_pod(&self, signal: Signal) -> Result<String> {
        let pod = self.pods()?.pop().context("there is no agent")?;
        let container = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap_or_default();
        let container = container.trim_start_matches("containerd://").to_owned();
        let killed = signal == Signal::KILL;
        if killed {
            self.signal(&container, "SIGSTOP")?;
        }
        self.node.release().change(&[STOPPED])?;
        if killed {
            let is_going = |pod: &Value| !pod["metadata"]["deletionTimestamp"].is_null();
            self.wait(STOP, "its pod is not taken away", || Ok(self.pods()?.iter().all(is_going)))?;
            self.signal(&container, "SIGKILL")?;
        }
        self.wait(STOP, "its pod does not end", || Ok(self.pods()?.is_empty()))?;
        Ok(if killed { "signal 9".to_owned() } else { "its pod is gone".to_owned() })
    }

    /// Of this node.
    fn pods(&self) -> Result<Vec<Value>> {
        let of_node = format!("--field-selector=spec.nodeName={}", self.node.cluster.node_name());
        let list = ["get", "pods", "--namespace", NAMESPACE, "--selector", AGENTS, "-o", "json", &of_node];
        let mut list: Value =
            serde_json::from_str(&self.node.cluster.kubectl_output(&list)?).context("kubectl's list")?;
        Ok(list["items"].as_array_mut().map(std::mem::take).unwrap_or_default())
    }

    /// To the container's process, past the kubelet.
    fn signal(&self, container: &str, signal: &str) -> Result<()> {
        let socket = "/run/containerd/containerd.sock";
        let ctr = ["/run/cluster/bin/ctr", "--address", socket, "--namespace", "k8s.io"];
        let output =
            self.node.cluster.enter(&[&ctr[..], &["tasks", "kill", "-s", signal, container]].concat()).output();
        let output = output.context("running ctr")?;
        if !output.status.success() {
            bail!("{signal} to the agent's container: {}", String::from_utf8_lossy(&output.stderr).trim_end());
        }
        Ok(())
    }

    fn wait(&self, timeout: Duration, trouble: &str, mut good: impl FnMut() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + timeout;
        while !good()? {
            if Instant::now() > deadline {
                bail!("{trouble}, after {} s; {}", timeout.as_secs(), self.node.release().trouble());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}
