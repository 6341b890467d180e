//! The labels by which nodes say which domains they lie in: slices select their nodes by them, and whoever plans by topology
//! may.

use std::collections::{BTreeMap, BTreeSet};

use tessera_vocabulary::{DOMAIN_LABELS, domain_label};

use super::{DomainId, DomainWrite};
use crate::NodeName;
use crate::node::Node;

/// The nodes whose labels are not as they should be.
#[derive(Debug, Default)]
pub(super) struct Labels {
    wrong: BTreeMap<NodeName, DomainWrite>,
}

impl Labels {
    /// Compares what a node says with where it lies.
    pub(super) fn look(&mut self, name: &NodeName, node: Option<&Node>, lies_in: &BTreeSet<DomainId>) {
        self.wrong.remove(name);
        let Some(node) = node else { return };
        let mut labels = BTreeMap::new();
        for domain in lies_in {
            // In the order of names: of several of one driver it is the first.
            labels.entry(domain_label(&domain.driver)).or_insert_with(|| domain.device().to_string());
        }
        // All of them are the controller's, whoever put them there.
        let there = node.labels.iter().filter(|(key, _)| key.starts_with(DOMAIN_LABELS));
        let there: BTreeMap<_, _> = there.map(|(key, value)| (key.clone(), value.clone())).collect();
        if there != labels {
            let unwanted = there.into_keys().filter(|key| !labels.contains_key(key)).collect();
            let write = DomainWrite::Label { node: name.clone(), uid: node.uid.clone(), labels, unwanted };
            self.wrong.insert(name.clone(), write);
        }
    }

    /// A write was answered. What is still wrong then is told by the watch: two that are sure would write for ever.
    pub(super) fn written(&mut self, node: &NodeName) {
        self.wrong.remove(node);
    }

    pub(super) fn writes(&self) -> Vec<DomainWrite> {
        self.wrong.values().cloned().collect()
    }
}
