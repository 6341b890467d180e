//! Where a cluster keeps its things, seen from the host and from inside the node.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::name::ClusterName;

/// Holds one directory for each cluster. Gone after a reboot, like the clusters themselves.
pub(crate) const RUN_ROOT: &str = "/run/tessera-clusters";

/// Where a cluster's run directory appears inside its node. The same for every cluster and short, since sockets lie
/// below it.
pub(crate) const INSIDE: &str = "/run/cluster";

/// The programs of the cluster, inside the node.
pub(crate) const INSIDE_BIN: &str = "/run/cluster/bin";

/// The run directory of a cluster, or of one of its further nodes, seen from the host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunDirectory(PathBuf);

impl RunDirectory {
    pub(crate) fn of(name: &ClusterName) -> Self {
        Self(Path::new(RUN_ROOT).join(name.as_str()))
    }

    /// That of a node besides the first, whose own is the cluster's.
    pub(crate) fn of_further_node(&self, node: &str) -> Self {
        Self(self.0.join("nodes").join(node))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Requests to the cluster's supervisor arrive here.
    pub(crate) fn supervisor_socket(&self) -> PathBuf {
        self.0.join("supervisor.sock")
    }

    /// Requests to PID 1 of the node arrive here.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    /// What others need to know of a running cluster.
    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("cluster.json")
    }

    /// The programs, as links into the cache.
    pub(crate) fn bin(&self) -> PathBuf {
        self.0.join("bin")
    }

    /// A log for each service, and `node.log` for the node's own PID 1.
    pub(crate) fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    pub(crate) fn log_of(&self, service: &str) -> PathBuf {
        self.logs().join(format!("{service}.log"))
    }

    /// Certificates, tokens, kubeconfigs and configuration files.
    pub(crate) fn config(&self) -> PathBuf {
        self.0.join("config")
    }
}

/// The cgroup of a cluster, below the root of every hierarchy.
pub(crate) fn cgroup_of(name: &ClusterName) -> String {
    format!("{CGROUP_PREFIX}{name}")
}

/// What the names of our cgroups begin with, so that a stray one is recognised.
pub(crate) const CGROUP_PREFIX: &str = "tessera-cluster-";
