//! What a cluster is to be like.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use crate::layout::cgroup_of;
use crate::name::ClusterName;
use crate::record::{Bind, NodeSpec, Spec};
use crate::version::KubernetesVersion;

/// The name of a cluster's node.
pub const NODE: &str = "node-1";

/// How long a cluster lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// As long as its [`crate::Cluster`] value, and never longer than this process, however that ends.
    #[default]
    Owned,
    /// Until [`crate::Cluster::down`], from whichever process.
    Detached,
}

/// What a cluster is to be like.
#[derive(Debug, Clone)]
pub struct Options {
    /// One on this machine at a time.
    pub name: ClusterName,
    /// The version of all Kubernetes components.
    pub version: KubernetesVersion,
    /// How long it lives.
    pub mode: Mode,
    /// Host directories and files that appear inside the node.
    pub binds: Vec<Bind>,
    /// For the API server, the controller manager, the scheduler and the kubelet alike. One of them refuses to start
    /// when it does not know a gate.
    pub feature_gates: BTreeMap<String, bool>,
    /// Appended to the API server's command line, such as `--runtime-config=resource.k8s.io/v1alpha3=true`.
    pub apiserver_arguments: Vec<String>,
    /// Leave a cluster that did not become ready as it is, for a look at it; it then lives until it is taken down.
    pub keep_on_failure: bool,
}

impl Options {
    /// An owned cluster of the newest version.
    pub fn new(name: ClusterName) -> Self {
        Self {
            name,
            version: KubernetesVersion::default(),
            mode: Mode::default(),
            binds: Vec::new(),
            feature_gates: BTreeMap::new(),
            apiserver_arguments: Vec::new(),
            keep_on_failure: false,
        }
    }

    /// Checks what can be checked before anything is started.
    pub(crate) fn spec(&self) -> Result<Spec> {
        for bind in &self.binds {
            if !bind.source.is_absolute() || !bind.source.exists() {
                bail!("bind source {}: must be an absolute path that exists", bind.source.display());
            }
            if !bind.target.is_absolute() || bind.target.parent().is_none() {
                bail!("bind target {}: must be an absolute path other than /", bind.target.display());
            }
        }
        let node = NodeSpec {
            name: NODE.to_owned(),
            address: "10.210.0.1".to_owned(),
            pod_range: "10.211.1.0/24".to_owned(),
            cgroup: cgroup_of(&self.name),
            binds: self.binds.clone(),
        };
        Ok(Spec { cluster: self.name.clone(), version: self.version.to_string(), node })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_are_checked_before_anything_starts() {
        let with = |source: &str, target: &str| {
            let mut options = Options::new("a".parse().unwrap());
            options.binds.push(Bind { source: source.into(), target: target.into() });
            options.spec().map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(with("/tmp", "/run/x"), Ok(()));
        assert!(with("tmp", "/run/x").unwrap_err().starts_with("bind source tmp:"));
        assert!(with("/no/such", "/run/x").unwrap_err().starts_with("bind source /no/such:"));
        assert!(with("/tmp", "/").unwrap_err().starts_with("bind target /:"));
    }
}
