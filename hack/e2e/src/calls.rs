use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use simulated_node::SimulatedNode;
use tempfile::TempDir;
use testkit::kubelet::Prepared;
use testkit::{Claim, Plugin};
use tokio::runtime::Runtime;

/// The kubelet's calls to an agent, over one lasting connection, made by a test: the kubelet itself makes one only before
/// a pod's sandbox, which is too seldom for some tests.
pub struct Calls {
    /// Keeps the connection while no call is under way.
    runtime: Runtime,
    plugin: Plugin,
    /// Where the socket is reached by a path that is short enough for the kernel: the one through a node's root is not, with
    /// an instance that is a UID.
    _shortcut: TempDir,
}

impl Calls {
    /// Connects to the agent of a node that was started with this `--instance`.
    pub fn to(node: &SimulatedNode, instance: Option<&str>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let middle = instance.map(|instance| format!("-{instance}")).unwrap_or_default();
        let directory = node.cluster().node_root().join("var/lib/kubelet/plugins").join(Claim::DRIVER);
        let shortcut = tempfile::tempdir().unwrap();
        let link = shortcut.path().join("plugin");
        symlink(directory, &link).unwrap();
        let plugin = runtime.block_on(Plugin::connect(&link.join(format!("dra{middle}@kubelet.sock"))));
        Self { runtime, plugin, _shortcut: shortcut }
    }

    /// Prepares a claim. A call that fails as a whole is an error as the agent's reason is.
    pub fn prepare(&self, claim: &Claim) -> Prepared {
        let answers = self.runtime.block_on(self.plugin.prepare_all(&[claim]));
        let mut answers = answers.map_err(|status| status.to_string())?;
        answers.remove(&claim.uid).unwrap_or_else(|| Err("no answer for the claim".to_owned()))
    }

    /// The same with the time that it took.
    pub fn prepare_timed(&self, claim: &Claim) -> (Prepared, Duration) {
        let begun = Instant::now();
        (self.prepare(claim), begun.elapsed())
    }

    /// Unprepares a claim.
    pub fn unprepare(&self, claim: &Claim) -> Result<(), String> {
        let answers = self.runtime.block_on(self.plugin.unprepare_all(&[claim]));
        let mut answers = answers.map_err(|status| status.to_string())?;
        answers.remove(&claim.uid).unwrap_or_else(|| Err("no answer for the claim".to_owned()))
    }
}
