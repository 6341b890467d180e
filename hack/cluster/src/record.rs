//! What a running cluster says about itself, for processes that did not start it.

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

/// One node of a cluster. There is only one so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeSpec {
    pub(crate) name: String,
    /// The node's own address, on a bridge of its own network.
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
    pub(crate) node: NodeSpec,
}

/// Written by the supervisor, in the run directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) spec: Spec,
    pub(crate) supervisor: ProcessId,
    /// PID 1 of the node, as seen from the host.
    pub(crate) init: ProcessId,
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
