use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cluster::Cluster;

use crate::SimulatedNode;

/// The name of the agent among the node's services.
pub const AGENT: &str = "tessera-agent";

impl SimulatedNode {
    /// Starts the agent inside the node. `arguments` come after those that every node needs.
    pub fn start_agent(&self, arguments: &[&str]) -> Result<()> {
        let hardware = format!("/run/cluster/{}", crate::HARDWARE);
        let program = program()?;
        let fixed = [
            program.to_str().context("the target directory's path is not UTF-8")?,
            "run",
            "--node-name",
            self.cluster().node_name(),
            "--root",
            &hardware,
            "--kubeconfig",
            Cluster::AGENT_KUBECONFIG,
        ];
        let argv: Vec<String> = fixed.iter().chain(arguments).map(|argument| (*argument).to_owned()).collect();
        self.cluster().start_service(AGENT, &argv, &[])
    }

    /// Waits until the agent that was started last is registered with the kubelet and has published.
    pub fn wait_for_agent(&self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            let log = std::fs::read_to_string(self.agent_log()).unwrap_or_default();
            let own = log.rfind("took over the ledger").map_or("", |start| &log[start..]);
            if own.contains("registered with the kubelet") && own.contains("the slices are published") {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "the agent is not ready after {} s; its log ends with:\n{}",
                    timeout.as_secs(),
                    self.agent_log_end()?
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The last lines that the agent wrote.
    pub fn agent_log_end(&self) -> Result<String> {
        let path = self.agent_log();
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let lines: Vec<_> = text.lines().collect();
        Ok(lines[lines.len().saturating_sub(20)..].join("\n"))
    }
}

/// The agent that was built beside the running program.
fn program() -> Result<PathBuf> {
    let running = std::env::current_exe().context("the path of the running program")?;
    let found = running
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join("tessera-agent"))
        .find(|path| path.is_file());
    match found {
        Some(path) => Ok(path),
        None => bail!("no tessera-agent beside {}; build it: cargo build -p tessera-agent", running.display()),
    }
}
