mod pod;
mod values;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cluster::{Cluster, Signal};

use crate::SimulatedNode;
use crate::programs::beside;

/// What each agent logs once, before it begins with its drivers; the names of those that it serves from the start follow.
const STARTED: &str = "started node=";
/// What it logs of each driver, followed by its name.
const AT_WORK: &str = "took over the ledger";
const REGISTERED: &str = "registered with the kubelet";
const PUBLISHED: &str = "the slices are published";
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(60);

/// A tessera-agent of a node, running or not: a process beside the kubelet, or, on a node that began bare
/// ([`SimulatedNode::bare`]), a pod that the chart brings.
pub struct Agent<'a> {
    node: &'a SimulatedNode,
    service: String,
}

impl SimulatedNode {
    /// The node's agent.
    pub fn agent(&self) -> Agent<'_> {
        Agent { node: self, service: "tessera-agent".to_owned() }
    }

    /// Another agent, with sockets of its own, as while one replaces the other. Always a process.
    pub fn another_agent(&self, name: &str) -> Agent<'_> {
        Agent { node: self, service: format!("tessera-agent-{name}") }
    }
}

impl Agent<'_> {
    /// Starts it inside the node. `arguments` come after those that every node needs. Returns once it works with its
    /// state, before it has registered or published.
    pub fn start(&self, arguments: &[&str]) -> Result<()> {
        if self.is_pod() {
            return self.start_pod(arguments);
        }
        let earlier = self.log().matches(STARTED).count();
        let hardware = format!("/run/cluster/{}", crate::HARDWARE);
        let (program, hook) = (beside("tessera-agent", "tessera-agent")?, crate::hook()?);
        let path =
            |path: &'_ Path| path.to_str().map(str::to_owned).context("the target directory's path is not UTF-8");
        let (program, hook) = (path(&program)?, path(&hook)?);
        let fixed = [
            &program,
            "run",
            "--node-name",
            self.node.cluster.node_name(),
            "--root",
            &hardware,
            "--kubeconfig",
            Cluster::AGENT_KUBECONFIG,
            "--hook",
            &hook,
        ];
        let argv: Vec<String> = fixed.iter().chain(arguments).map(|argument| (*argument).to_owned()).collect();
        self.node.cluster.start_service(&self.service, &argv, &[])?;
        self.wait_for_log("it does not start", START, |log| {
            log.matches(STARTED).count() > earlier && of_each_driver(log, AT_WORK)
        })
    }

    /// Sends it a signal and waits for its end; says how it ended, where that can be known.
    pub fn stop(&self, signal: Signal) -> Result<String> {
        if self.is_pod() {
            return self.stop_pod(signal);
        }
        self.node.cluster.stop_service(&self.service, signal, STOP)
    }

    /// What tells its sockets from those of others, if anything does: its pod's UID.
    pub fn instance(&self) -> Option<String> {
        self.is_pod().then(|| self.node.release().logs().pop().map(|log| log.uid)).flatten()
    }

    fn is_pod(&self) -> bool {
        self.node.by_chart
    }

    /// Whether every driver of the one that was started last is registered with the kubelet.
    pub fn is_registered(&self) -> bool {
        of_each_driver(&self.log(), REGISTERED)
    }

    /// Waits until every driver of the one that was started last is registered with the kubelet and has published.
    pub fn wait_until_ready(&self, timeout: Duration) -> Result<()> {
        self.wait_for_log("it is not ready", timeout, |log| {
            of_each_driver(log, REGISTERED) && of_each_driver(log, PUBLISHED)
        })
    }

    /// Where everything goes that it and its predecessors write, on the host, if it is a process.
    pub fn log_path(&self) -> PathBuf {
        self.node.cluster.service_log(&self.service)
    }

    /// The last lines of its log.
    pub fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn log(&self) -> String {
        if self.is_pod() {
            return self.node.release().logs().pop().map(|log| log.said()).unwrap_or_default();
        }
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn wait_for_log(&self, trouble: &str, timeout: Duration, good: impl Fn(&str) -> bool) -> Result<()> {
        let deadline = Instant::now() + timeout;
        while !good(&self.log()) {
            if Instant::now() > deadline {
                let seconds = timeout.as_secs();
                bail!("{}: {trouble}, after {seconds} s; its log ends with:\n{}", self.service, self.log_end());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// Whether the agent that was started last has logged this of each driver that it serves from the start.
fn of_each_driver(log: &str, line: &str) -> bool {
    let Some(started) = log.rfind(STARTED) else { return false };
    let mut lines = log[started..].lines();
    // The last field of the line is a list in quotes.
    let drivers =
        lines.next().and_then(|first| first.split_once(" drivers=")).map_or("", |(_, list)| list.trim_matches('"'));
    let told = |driver: &str| {
        let of_driver = format!("{line} driver={driver}");
        log[started..].lines().any(|found| found.ends_with(&of_driver) || found.contains(&format!("{of_driver} ")))
    };
    drivers.split_whitespace().all(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_driver_of_the_last_agent_counts() {
        let first = "INFO started node=\"n\" version=\"1\" drivers=\"gpu.nvidia.com\"\n\
                     INFO registered with the kubelet driver=gpu.nvidia.com\n";
        let second = "INFO started node=\"n\" version=\"1\" drivers=\"gpu.nvidia.com tpu.google.com\"\n\
                      INFO registered with the kubelet driver=tpu.google.com\n";
        let third = "INFO registered with the kubelet driver=gpu.nvidia.com\n";
        for (log, registered) in [
            (String::new(), false),
            (first.to_owned(), true),
            ([first, second].concat(), false),
            ([first, second, third].concat(), true),
        ] {
            assert_eq!(of_each_driver(&log, REGISTERED), registered, "{log}");
        }
    }
}
