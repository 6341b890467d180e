use anyhow::{Context, Result, bail};
use cluster::{Cluster, ClusterName, Options, Progress};
use simulated_hardware::Profile;

use crate::{Release, SimulatedNode, install_manifests};

/// A cluster of several nodes, each with simulated hardware and an agent of its own.
pub struct SimulatedCluster {
    /// In the order of their numbers. The cluster ends with the first one's value, if it was started here.
    nodes: Vec<SimulatedNode>,
}

impl SimulatedCluster {
    /// As [`SimulatedNode::up`], with as many nodes as the options say. `hardware` has a profile for each node, or one for
    /// all of them.
    ///
    /// # Errors
    /// As [`Cluster::up`]; nothing is left behind then.
    pub fn up(options: &Options, hardware: &[impl AsRef<str>], report: &mut dyn FnMut(&Progress)) -> Result<Self> {
        let mut cluster = Self::bare(options, hardware, report)?;
        install_manifests(cluster.cluster())?;
        for node in &mut cluster.nodes {
            node.by_chart = false;
        }
        Ok(cluster)
    }

    /// As [`SimulatedNode::bare`], with as many nodes as the options say and their `hardware` as in
    /// [`SimulatedCluster::up`].
    ///
    /// # Errors
    /// As [`Cluster::up`]; nothing is left behind then.
    pub fn bare(options: &Options, hardware: &[impl AsRef<str>], report: &mut dyn FnMut(&Progress)) -> Result<Self> {
        let profiles = profiles(hardware, usize::from(options.nodes))?;
        let library = simulated_hardware::library()?;
        let first = Cluster::up(options, report)?;
        let names: Vec<String> = first.node_names().into_iter().map(str::to_owned).collect();
        // The one that owns the cluster is the first node's; whatever fails from here on, it goes with it.
        let further: Vec<_> = names[1..].iter().map(|name| first.seen_from(name)).collect::<Result<_>>()?;
        let nodes = std::iter::once(first).chain(further).zip(&profiles);
        let nodes = nodes.map(|(seen, profile)| SimulatedNode::equip(seen, profile, &library, true));
        Ok(Self { nodes: nodes.collect::<Result<_>>()? })
    }

    /// A cluster that was started elsewhere, or earlier.
    pub fn open(name: &ClusterName) -> Result<Self> {
        let cluster = Cluster::open(name)?;
        let names = cluster.node_names();
        let nodes = names.iter().map(|name| SimulatedNode::opened(cluster.seen_from(name)?));
        Ok(Self { nodes: nodes.collect::<Result<_>>()? })
    }

    /// Its nodes, the first one first.
    pub fn nodes(&self) -> &[SimulatedNode] {
        &self.nodes
    }

    /// The node of this name.
    ///
    /// # Errors
    /// If there is none; the error names those that there are.
    pub fn node(&self, name: &str) -> Result<&SimulatedNode> {
        self.nodes.iter().find(|node| node.cluster().node_name() == name).with_context(|| {
            format!("there is no node {name:?}; there are: {}", self.cluster().node_names().join(", "))
        })
    }

    /// The cluster below, seen from its first node.
    pub fn cluster(&self) -> &Cluster {
        self.nodes[0].cluster()
    }

    /// The chart on all nodes, installed or not.
    pub fn release(&self) -> Release<'_> {
        self.nodes[0].release()
    }

    /// Ends it and removes all that is left of it.
    pub fn down(mut self) -> Result<()> {
        self.nodes.swap_remove(0).down()
    }
}

/// Read before anything is started: a misspelt profile should not cost a cluster.
fn profiles(hardware: &[impl AsRef<str>], nodes: usize) -> Result<Vec<Profile>> {
    if hardware.len() != 1 && hardware.len() != nodes {
        bail!("hardware for {} nodes, of {nodes}: give it once, or once for each node", hardware.len());
    }
    (0..nodes).map(|number| Ok(Profile::named_or_at(hardware[number.min(hardware.len() - 1)].as_ref())?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_is_given_once_or_once_for_each_node() {
        for (hardware, nodes, fits) in [
            (&["dgx-h100"][..], 1, true),
            (&["dgx-h100"], 3, true),
            (&["dgx-h100", "tpu-v5e"], 2, true),
            (&["dgx-h100", "tpu-v5e"], 3, false),
            (&[], 1, false),
            (&["dgx-h100", "no-such-machine"], 2, false),
        ] {
            let read = profiles(hardware, nodes);
            assert_eq!(read.as_ref().is_ok_and(|profiles| profiles.len() == nodes), fits, "{hardware:?} {nodes}");
        }
    }
}
