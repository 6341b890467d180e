use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tessera_rollout::NodeName;

/// The UIDs of the nodes that there are, once they are known; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownNodes(Arc<Mutex<Option<BTreeMap<NodeName, String>>>>);

impl KnownNodes {
    /// `None` before the first list is complete.
    pub(crate) fn get(&self) -> MutexGuard<'_, Option<BTreeMap<NodeName, String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
