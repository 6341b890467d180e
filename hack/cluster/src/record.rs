//! What a running cluster says about itself, for processes that did not start it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::layout::RunDirectory;
use crate::name::ClusterName;
use crate::processes::ProcessId;

/// A host directory or file that appears inside the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// An absolute path on the host.
    pub source: PathBuf,
    /// An absolute path inside the node. Below `/dev`, `/etc`, `/run`, `/var/lib` and `/var/log`, which are the
    /// cluster's own, it is made where it is missing; elsewhere it must exist, since making it would change the host.
    pub target: PathBuf,
}

/// One node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeSpec {
    pub(crate) name: String,
    /// The node's own address. All nodes' are on one bridge, in the first node's network.
    pub(crate) address: String,
    /// The range that its pods' addresses come from.
    pub(crate) pod_range: String,
    /// The cgroup that holds its pods, below the root of every hierarchy.
    pub(crate) cgroup: String,
    pub(crate) binds: Vec<Bind>,
}

/// What the supervisor is started with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) cluster: ClusterName,
    pub(crate) version: String,
    /// The first has all of Kubernetes, the others a container runtime and a kubelet. There is at least one.
    pub(crate) nodes: Vec<NodeSpec>,
}

impl Spec {
    /// The run directory of the cluster.
    pub(crate) fn directory(&self) -> RunDirectory {
        RunDirectory::of(&self.cluster)
    }

    /// The run directory of one of its nodes: what is `/run/cluster` inside.
    pub(crate) fn directory_of(&self, node: &NodeSpec) -> RunDirectory {
        match self.is_first(node) {
            true => self.directory(),
            false => self.directory().of_further_node(&node.name),
        }
    }

    /// Whether a node is the one that has all of Kubernetes.
    pub(crate) fn is_first(&self, node: &NodeSpec) -> bool {
        self.nodes.first().is_some_and(|first| first.name == node.name)
    }

    /// The node that has all of Kubernetes.
    pub(crate) fn first(&self) -> Result<&NodeSpec> {
        self.nodes.first().context("a cluster without a node")
    }

    pub(crate) fn node(&self, name: &str) -> Result<&NodeSpec> {
        self.nodes.iter().find(|node| node.name == name).with_context(|| {
            let names: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
            format!("cluster {} has no node {name:?}; it has: {}", self.cluster, names.join(", "))
        })
    }
}

/// Written by the supervisor, in the run directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) spec: Spec,
    pub(crate) supervisor: ProcessId,
    /// PID 1 of each node that is up, by the node's name, as seen from the host.
    pub(crate) inits: BTreeMap<String, ProcessId>,
}

impl Record {
    pub(crate) fn read(directory: &RunDirectory) -> Result<Self> {
        let path = directory.record();
        let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("understanding {}", path.display()))
    }

    pub(crate) fn write(&self, directory: &RunDirectory) -> Result<()> {
        let path = directory.record();
        let aside = path.with_extension("new");
        fs::write(&aside, serde_json::to_vec_pretty(self)?).with_context(|| format!("writing {}", aside.display()))?;
        fs::rename(&aside, &path).with_context(|| format!("naming {}", path.display()))
    }
}
