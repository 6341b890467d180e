use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;
use tessera_policy::{NodeLayout, NodeLayoutSpec, PartitionPolicy};
use tessera_rollout::{Revision, Write};

use crate::fault::Fault;

/// A Node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) uid: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) ready: bool,
}

/// What a watch tells.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Policy(PartitionPolicy),
    PolicyGone(PartitionPolicy),
    Node(String, Node),
    NodeGone(String),
    Layout(NodeLayout),
    LayoutGone(NodeLayout),
}

/// The answer to a write.
pub(crate) enum Answer {
    Policy(PartitionPolicy),
    Layout(NodeLayout),
    Nothing,
}

/// An API server: objects, their versions and what has happened.
#[derive(Default)]
pub(crate) struct Server {
    pub(crate) fault: Option<Fault>,
    revision: u64,
    pub(crate) policies: BTreeMap<String, PartitionPolicy>,
    pub(crate) nodes: BTreeMap<String, Node>,
    pub(crate) layouts: BTreeMap<String, NodeLayout>,
    pub(crate) log: Vec<Event>,
}

impl Server {
    pub(crate) fn with(fault: Option<Fault>) -> Self {
        Self { fault, ..Self::default() }
    }

    /// How far it has come, as every list tells.
    pub(crate) fn version(&self) -> Revision {
        Revision::read(Some(&self.revision.to_string()))
    }

    fn next(&mut self) -> String {
        self.revision += 1;
        self.revision.to_string()
    }

    pub(crate) fn put_policy(&mut self, mut policy: PartitionPolicy) {
        let name = policy.metadata.name.clone().unwrap();
        policy.metadata.resource_version = Some(self.next());
        self.policies.insert(name, policy.clone());
        self.log.push(Event::Policy(policy));
    }

    /// As a person changes its spec.
    pub(crate) fn edit_policy(&mut self, name: &str, edit: impl FnOnce(&mut PartitionPolicy)) {
        let Some(mut policy) = self.policies.get(name).cloned() else { return };
        edit(&mut policy);
        policy.metadata.generation = policy.metadata.generation.map(|generation| generation + 1);
        self.put_policy(policy);
    }

    pub(crate) fn delete_policy(&mut self, name: &str) {
        let Some(mut policy) = self.policies.get(name).cloned() else { return };
        policy.metadata.deletion_timestamp.get_or_insert(Time(Timestamp::UNIX_EPOCH));
        self.put_policy(policy);
        self.finish(name);
    }

    fn finish(&mut self, name: &str) {
        let over = self.policies.get(name).is_some_and(|policy| {
            policy.metadata.deletion_timestamp.is_some() && policy.metadata.finalizers.iter().flatten().count() == 0
        });
        if over {
            let policy = self.policies.remove(name).unwrap();
            self.log.push(Event::PolicyGone(policy));
        }
    }

    pub(crate) fn put_node(&mut self, name: &str, labels: BTreeMap<String, String>, ready: bool) {
        let uid = self.nodes.get(name).map(|node| node.uid.clone());
        let node = Node { uid: uid.unwrap_or_else(|| format!("node-{}", self.revision)), labels, ready };
        self.revision += 1;
        self.nodes.insert(name.to_owned(), node.clone());
        self.log.push(Event::Node(name.to_owned(), node));
    }

    /// With what belongs to it, as the garbage collector does.
    pub(crate) fn delete_node(&mut self, name: &str) {
        if self.nodes.remove(name).is_some() {
            self.log.push(Event::NodeGone(name.to_owned()));
            self.delete_layout(name);
        }
    }

    fn delete_layout(&mut self, name: &str) {
        if let Some(mut layout) = self.layouts.remove(name) {
            layout.metadata.resource_version = Some(self.next());
            self.log.push(Event::LayoutGone(layout));
        }
    }

    pub(crate) fn put_layout(&mut self, mut layout: NodeLayout) -> NodeLayout {
        layout.metadata.resource_version = Some(self.next());
        self.layouts.insert(layout.metadata.name.clone().unwrap(), layout.clone());
        self.log.push(Event::Layout(layout.clone()));
        layout
    }

    /// `None`: it was refused.
    pub(crate) fn write(&mut self, write: Write) -> Option<Answer> {
        match write {
            Write::Finalizers { policy, resource_version, finalizers } => {
                let mut changed = self.policy_at(policy.as_ref(), &resource_version)?;
                changed.metadata.finalizers = Some(finalizers);
                self.put_policy(changed);
                self.finish(policy.as_ref());
                Some(self.policies.get(policy.as_ref()).cloned().map_or(Answer::Nothing, Answer::Policy))
            }
            Write::Status { policy, resource_version, status, .. } => {
                let mut changed = self.policy_at(policy.as_ref(), &resource_version)?;
                changed.status = Some(*status);
                if let (Some(Fault::TurnsAreNotStored), Some(status)) = (self.fault, &mut changed.status) {
                    status.turns.clear();
                }
                self.put_policy(changed);
                Some(Answer::Policy(self.policies[policy.as_ref()].clone()))
            }
            Write::Create { node, uid } => {
                if self.layouts.contains_key(node.as_ref()) {
                    return None;
                }
                let owner = OwnerReference { kind: "Node".to_owned(), uid, ..OwnerReference::default() };
                let metadata = ObjectMeta {
                    name: Some(node.to_string()),
                    uid: Some(format!("layout-{}", self.revision)),
                    generation: Some(1),
                    owner_references: Some(vec![owner]),
                    ..ObjectMeta::default()
                };
                let layout = NodeLayout { metadata, spec: NodeLayoutSpec::default(), status: None };
                Some(Answer::Layout(self.put_layout(layout)))
            }
            Write::Layout { node, resource_version, devices } => {
                let mut layout = self.layout_at(node.as_ref(), &resource_version)?;
                layout.spec.devices = devices;
                layout.metadata.generation = layout.metadata.generation.map(|generation| generation + 1);
                Some(Answer::Layout(self.put_layout(layout)))
            }
            Write::Fence { node, resource_version } => {
                let layout = self.layout_at(node.as_ref(), &resource_version)?;
                Some(Answer::Layout(self.put_layout(layout)))
            }
            // Of nodes that lie in no domain there are none.
            Write::Domain(_) => None,
            Write::Delete { node, uid, resource_version, gone } => {
                let layout = self.layout_at(node.as_ref(), &resource_version)?;
                // A controller asks once more whether the node is gone.
                let there = self.nodes.get(node.as_ref()).map(|node| node.uid.clone());
                if layout.metadata.uid == Some(uid) && (gone.is_none() || gone != there) {
                    self.delete_layout(node.as_ref());
                }
                Some(Answer::Nothing)
            }
        }
    }

    fn policy_at(&self, name: &str, version: &str) -> Option<PartitionPolicy> {
        let policy = self.policies.get(name)?;
        self.takes(version, &policy.metadata).then(|| policy.clone())
    }

    fn layout_at(&self, name: &str, version: &str) -> Option<NodeLayout> {
        let layout = self.layouts.get(name)?;
        self.takes(version, &layout.metadata).then(|| layout.clone())
    }

    fn takes(&self, version: &str, metadata: &ObjectMeta) -> bool {
        self.fault == Some(Fault::AnyVersionIsTaken) || metadata.resource_version.as_deref() == Some(version)
    }

    /// Takes a node's turn away, as a controller does by a status without it.
    pub(crate) fn end_turn(&mut self, node: &str) {
        for mut policy in self.policies.clone().into_values() {
            let turns = policy.status.iter_mut().map(|status| &mut status.turns);
            let ended = turns.map(|turns| turns.extract_if(.., |turn| turn.node == node).count()).sum::<usize>();
            if ended > 0 {
                self.put_policy(policy);
            }
        }
    }
}
