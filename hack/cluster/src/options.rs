//! What a cluster is to be like.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use crate::layout::cgroup_of;
use crate::name::ClusterName;
use crate::record::{Bind, NodeSpec, Spec};
use crate::version::KubernetesVersion;

/// The name of a cluster's first node, which is the only one unless [`Options::nodes`] says otherwise.
pub const NODE: &str = "node-1";

/// How many nodes a cluster may have: each has a digit of its own in addresses and names.
pub const MOST_NODES: u8 = 9;

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
    /// How many nodes it has, 1 to [`MOST_NODES`]: `node-1`, which has all of Kubernetes, `node-2` and so on.
    pub nodes: u8,
    /// How long it lives.
    pub mode: Mode,
    /// Host directories and files that appear inside each node.
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
            nodes: 1,
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
        if !(1..=MOST_NODES).contains(&self.nodes) {
            bail!("{} nodes: a cluster has 1 to {MOST_NODES}", self.nodes);
        }
        let nodes = (1..=self.nodes).map(|number| self.node(number)).collect();
        Ok(Spec { cluster: self.name.clone(), version: self.version.to_string(), nodes })
    }

    fn node(&self, number: u8) -> NodeSpec {
        let name = if number == 1 { NODE.to_owned() } else { format!("node-{number}") };
        // One below the other, so that all go with the cluster's own.
        let cgroup = match number {
            1 => cgroup_of(&self.name),
            _ => format!("{}/{name}", cgroup_of(&self.name)),
        };
        NodeSpec {
            name,
            address: format!("10.210.0.{number}"),
            pod_range: format!("10.211.{number}.0/24"),
            cgroup,
            binds: self.binds.clone(),
        }
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

    #[test]
    fn nodes_share_no_name_address_pod_range_or_cgroup() {
        let with = |nodes| Options { nodes, ..Options::new("a".parse().unwrap()) }.spec();
        for bad in [0, 10] {
            assert!(with(bad).unwrap_err().to_string().ends_with("a cluster has 1 to 9"));
        }
        let nodes = with(9).unwrap().nodes;
        let facts: [fn(&NodeSpec) -> &str; 4] =
            [|node| &node.name, |node| &node.address, |node| &node.pod_range, |node| &node.cgroup];
        for fact in facts {
            assert_eq!(nodes.iter().map(fact).collect::<std::collections::BTreeSet<_>>().len(), 9);
        }
        assert_eq!(with(1).unwrap().nodes, nodes[..1]);
    }
}
