use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cluster::{Cluster, Signal};

use crate::SimulatedNode;
use crate::programs::beside;

/// What each agent logs once when it has read its state.
const AT_WORK: &str = "took over the ledger";
const REGISTERED: &str = "registered with the kubelet";
const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(15);

/// A tessera-agent of a node, running or not.
pub struct Agent<'a> {
    cluster: &'a Cluster,
    service: String,
}

impl SimulatedNode {
    /// The node's agent.
    pub fn agent(&self) -> Agent<'_> {
        Agent { cluster: self.cluster(), service: "tessera-agent".to_owned() }
    }

    /// Another agent, with sockets of its own, as while one replaces the other.
    pub fn another_agent(&self, name: &str) -> Agent<'_> {
        Agent { cluster: self.cluster(), service: format!("tessera-agent-{name}") }
    }
}

impl Agent<'_> {
    /// Starts it inside the node. `arguments` come after those that every node needs. Returns once it works with its
    /// state, before it has registered or published.
    pub fn start(&self, arguments: &[&str]) -> Result<()> {
        let earlier = self.log().matches(AT_WORK).count();
        let hardware = format!("/run/cluster/{}", crate::HARDWARE);
        let program = beside("tessera-agent", "tessera-agent")?;
        let fixed = [
            program.to_str().context("the target directory's path is not UTF-8")?,
            "run",
            "--node-name",
            self.cluster.node_name(),
            "--root",
            &hardware,
            "--kubeconfig",
            Cluster::AGENT_KUBECONFIG,
        ];
        let argv: Vec<String> = fixed.iter().chain(arguments).map(|argument| (*argument).to_owned()).collect();
        self.cluster.start_service(&self.service, &argv, &[])?;
        self.wait_for_log("it does not start", START, |log| log.matches(AT_WORK).count() > earlier)
    }

    /// Sends it a signal and waits for its end; says how it ended.
    pub fn stop(&self, signal: Signal) -> Result<String> {
        self.cluster.stop_service(&self.service, signal, STOP)
    }

    /// Whether the one that was started last is registered with the kubelet.
    pub fn is_registered(&self) -> bool {
        last(&self.log()).contains(REGISTERED)
    }

    /// Waits until the one that was started last is registered with the kubelet and has published.
    pub fn wait_until_ready(&self, timeout: Duration) -> Result<()> {
        self.wait_for_log("it is not ready", timeout, |log| {
            last(log).contains(REGISTERED) && last(log).contains("the slices are published")
        })
    }

    /// Where everything goes that it and its predecessors write, on the host.
    pub fn log_path(&self) -> PathBuf {
        self.cluster.service_log(&self.service)
    }

    /// The last lines of its log.
    pub fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn log(&self) -> String {
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

/// What the agent that was started last has logged since it has read its state.
fn last(log: &str) -> &str {
    log.rfind(AT_WORK).map_or("", |start| &log[start..])
}
