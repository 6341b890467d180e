use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cluster::Cluster;

use crate::SimulatedNode;

/// The name of the agent among the node's services.
pub const AGENT: &str = "tessera-agent";

/// What each agent logs once when it has read its state.
const AT_WORK: &str = "took over the ledger";
const START: Duration = Duration::from_secs(30);

impl SimulatedNode {
    /// Starts the agent inside the node. `arguments` come after those that every node needs. Returns once it works with
    /// its state, before it has registered or published.
    pub fn start_agent(&self, arguments: &[&str]) -> Result<()> {
        let earlier = self.agent_log_text().matches(AT_WORK).count();
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
        self.cluster().start_service(AGENT, &argv, &[])?;
        self.wait_for_log("it does not start", START, |log| log.matches(AT_WORK).count() > earlier)
    }

    /// Waits until the agent that was started last is registered with the kubelet and has published.
    pub fn wait_for_agent(&self, timeout: Duration) -> Result<()> {
        self.wait_for_log("it is not ready", timeout, |log| {
            let own = log.rfind(AT_WORK).map_or("", |start| &log[start..]);
            own.contains("registered with the kubelet") && own.contains("the slices are published")
        })
    }

    fn wait_for_log(&self, trouble: &str, timeout: Duration, good: impl Fn(&str) -> bool) -> Result<()> {
        let deadline = Instant::now() + timeout;
        while !good(&self.agent_log_text()) {
            if Instant::now() > deadline {
                bail!(
                    "tessera-agent: {trouble}, after {} s; its log ends with:\n{}",
                    timeout.as_secs(),
                    self.agent_log_end()?
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn agent_log_text(&self) -> String {
        std::fs::read_to_string(self.agent_log()).unwrap_or_default()
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
