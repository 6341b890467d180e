//! Nodes besides the first, which go and come back while the cluster lives.

use std::fs;

use anyhow::{Context, Result};

use crate::bring_up::join;
use crate::cluster::Cluster;
use crate::control::{NodeRequest, ask_supervisor};

impl Cluster {
    /// Kills the node's PID 1 and with it all that runs there, as a loss of power would: the node says goodbye to nobody.
    /// What it has on disk stays, in its run directory; what it has in memory, such as all of /run, goes. Refused for the
    /// first node, which has all of Kubernetes.
    pub fn kill_node(&self) -> Result<()> {
        let request = NodeRequest::Kill { node: self.node_name().to_owned() };
        ask_supervisor(&self.spec.directory().supervisor_socket(), &request)
    }

    /// Starts a node that is away: it has the name, the address and the disk that it had, and a new boot id. Returns when
    /// its kubelet has called it Ready.
    pub fn start_node(&self) -> Result<()> {
        let request = NodeRequest::Start { node: self.node_name().to_owned() };
        ask_supervisor(&self.spec.directory().supervisor_socket(), &request)?;
        join(self)
    }

    /// The id of the node's boot: another one each time that it is started.
    pub fn boot_id(&self) -> Result<String> {
        let path = self.directory.path().join("boot-id");
        let id = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(id.trim().to_owned())
    }

    /// Whether the node is there, whatever it does.
    pub fn is_node_up(&self) -> bool {
        self.init() != 0
    }
}
