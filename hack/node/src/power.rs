use anyhow::Result;

use crate::SimulatedNode;

impl SimulatedNode {
    /// Takes the node's power away: everything on it ends without a word. Refused for the first node of a cluster.
    ///
    /// # Errors
    /// As [`cluster::Cluster::kill_node`].
    pub fn power_off(&self) -> Result<()> {
        self.cluster().kill_node()
    }

    /// Boots a node that was off; its hardware is as after a reboot. Returns when the node is Ready. An agent that is a
    /// process, and the kernel of [`SimulatedNode::boot_kernel`], are to be started again; a pod comes by itself.
    ///
    /// # Errors
    /// As [`cluster::Cluster::start_node`].
    pub fn power_on(&self) -> Result<()> {
        self.machine().run(&["reboot"])?;
        self.cluster().start_node()
    }
}
