use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// The labels of the Node object, as far as they are known by now. Clones share them: who reads the object says what is
/// in it, and the next look at the hardware sees that.
#[derive(Clone, Debug, Default)]
pub struct NodeLabels(Arc<RwLock<BTreeMap<String, String>>>);

impl NodeLabels {
    /// What the object says now.
    pub fn set(&self, labels: BTreeMap<String, String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = labels;
    }

    pub(super) fn get(&self, names: &[&str]) -> Option<String> {
        let labels = self.0.read().unwrap_or_else(PoisonError::into_inner);
        names.iter().find_map(|name| labels.get(*name)).filter(|value| !value.is_empty()).cloned()
    }
}

/// As GKE labels its nodes, and as whoever runs Google's own driver elsewhere does.
pub(super) const ACCELERATOR: [&str; 2] = ["cloud.google.com/gke-tpu-accelerator", "tpu.google.com/accelerator"];
pub(super) const TOPOLOGY: [&str; 2] = ["cloud.google.com/gke-tpu-topology", "tpu.google.com/topology"];
pub(super) const ICI_RESILIENCY: [&str; 2] =
    ["cloud.google.com/gke-tpu-ici-resiliency", "tpu.google.com/ici-resiliency"];
/// Our own, for slices of several hosts that GKE does not run.
pub(super) const SLICE: [&str; 1] = ["tessera.dev/tpu-slice"];
pub(super) const WORKER_ID: [&str; 1] = ["tessera.dev/tpu-worker-id"];
/// Joined by `_`, since a label takes no comma, and the name of a host no `_`.
pub(super) const WORKER_HOSTNAMES: [&str; 1] = ["tessera.dev/tpu-worker-hostnames"];
