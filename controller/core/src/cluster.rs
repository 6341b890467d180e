use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use tessera_policy::{NodeLayout, PartitionPolicy, Turn};

use crate::agents::Agents;
use crate::assignment::{Conflict, Unclear};
use crate::census::{Census, Censuses};
use crate::domains::{self, Domains};
use crate::expression::{Functions, deep};
use crate::facts::Texts;
use crate::node::{Layout, Node};
use crate::policy::Policy;
use crate::standing::Assessment;
use crate::{NodeName, PolicyName, Revision, turns};

/// What is known of a cluster: policies, nodes and NodeLayouts, as watches and the answers to writes tell of them.
pub struct Cluster {
    functions: Functions,
    policies: BTreeMap<PolicyName, Policy>,
    nodes: BTreeMap<NodeName, Node>,
    layouts: BTreeMap<NodeName, Layout>,
    /// How far the watch over NodeLayouts has come.
    layouts_seen: Revision,
    /// What follows of each node by itself; those in `stale` have to be made anew.
    assessments: BTreeMap<NodeName, Assessment>,
    stale: BTreeSet<NodeName>,
    /// What follows of all of them together.
    censuses: Censuses,
    /// The nodes about which something may have to be written: those that have changed, or whose turns have, and those about which
    /// something was to be written before.
    open: BTreeSet<NodeName>,
    /// The nodes whose stored turns have changed since the last decision.
    turned: BTreeSet<String>,
    /// Of each policy, whether it began anything at the last decision.
    began: BTreeMap<PolicyName, bool>,
    texts: Texts,
    pub(crate) agents: Agents,
    pub(crate) domains: Domains,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            functions: Functions::new(),
            policies: BTreeMap::new(),
            nodes: BTreeMap::new(),
            layouts: BTreeMap::new(),
            layouts_seen: Revision::default(),
            assessments: BTreeMap::new(),
            stale: BTreeSet::new(),
            censuses: Censuses::default(),
            open: BTreeSet::new(),
            turned: BTreeSet::new(),
            began: BTreeMap::new(),
            texts: Texts::default(),
            agents: Agents::default(),
            domains: Domains::default(),
        }
    }
}

impl Cluster {
    /// A policy is there, or was changed. What is older than what is known is let pass: watches and answers overtake each
    /// other.
    pub fn policy(&mut self, policy: PartitionPolicy) {
        let revision = Revision::read(policy.metadata.resource_version.as_deref());
        let known = policy.metadata.name.as_deref().and_then(|name| self.policies.get_mut(name));
        if known.as_ref().is_some_and(|known| known.revision > revision) {
            return;
        }
        let before = known.as_ref().map(|known| &*known.status.turns).unwrap_or_default();
        let now = policy.status.as_ref().map(|status| &*status.turns).unwrap_or_default();
        self.turned.extend(turned(before, now));
        match known {
            // Its status is told again and again, and expressions are compiled once.
            Some(known) if known.says_what(&policy) => known.renew(policy),
            _ => {
                let Some(policy) = Policy::new(policy) else { return };
                self.stale.extend(self.nodes.keys().cloned());
                self.policies.insert(policy.name.clone(), policy);
            }
        }
    }

    /// A policy is there and says what nobody here can read. What follows it stays as it is, and what was read of it before
    /// holds.
    pub fn policy_unreadable(&mut self, metadata: ObjectMeta, error: &str) {
        let Some(policy) = Policy::unreadable(metadata, error) else { return };
        if !self.policies.contains_key(&policy.name) {
            self.stale.extend(self.nodes.keys().cloned());
            self.policies.insert(policy.name.clone(), policy);
        }
    }

    /// A policy is gone.
    pub fn policy_gone(&mut self, metadata: &ObjectMeta) {
        let name = metadata.name.as_deref().unwrap_or_default();
        let uid = metadata.uid.as_deref().unwrap_or_default();
        if self.policies.get(name).is_some_and(|known| known.uid == uid) {
            self.forget_policy(&name.into());
        }
    }

    /// These are all the policies that there are.
    pub fn policies_are(&mut self, names: &BTreeSet<PolicyName>) {
        let gone: Vec<_> = self.policies.keys().filter(|name| !names.contains(*name)).cloned().collect();
        gone.iter().for_each(|name| self.forget_policy(name));
    }

    fn forget_policy(&mut self, name: &PolicyName) {
        let Some(policy) = self.policies.remove(name) else { return };
        self.began.remove(name);
        self.turned.extend(turned(&policy.status.turns, &[]));
        self.stale.extend(self.nodes.keys().cloned());
    }

    /// A node is there, or was changed.
    pub fn node(&mut self, name: NodeName, uid: String, labels: BTreeMap<String, String>) {
        let known = self.nodes.get(&name).filter(|known| known.uid == uid);
        let not_ready_since = known.and_then(|known| known.not_ready_since);
        let node = Node { uid, labels, not_ready_since };
        if self.nodes.get(&name) != Some(&node) {
            self.stale.insert(name.clone());
            self.nodes.insert(name, node);
        }
    }

    /// A node that is known is ready, or is not since some time, as its condition says. One of which nothing is said is ready.
    pub fn node_readiness(&mut self, name: &NodeName, not_ready_since: Option<Timestamp>) {
        if let Some(node) = self.nodes.get_mut(name)
            && node.not_ready_since != not_ready_since
        {
            node.not_ready_since = not_ready_since;
            self.stale.insert(name.clone());
        }
    }

    /// A node is gone.
    pub fn node_gone(&mut self, name: &NodeName) {
        self.agents.forget(name);
        if self.nodes.remove(name).is_some() {
            self.stale.insert(name.clone());
        }
    }

    /// These are all the nodes that there are.
    pub fn nodes_are(&mut self, names: &BTreeSet<NodeName>) {
        let gone: Vec<_> = self.nodes.keys().filter(|name| !names.contains(*name)).cloned().collect();
        gone.iter().for_each(|name| self.node_gone(name));
    }

    /// The watch tells that a NodeLayout is there, or was changed.
    pub fn layout(&mut self, layout: NodeLayout) {
        self.layouts_seen = self.layouts_seen.max(Revision::read(layout.metadata.resource_version.as_deref()));
        self.take(layout);
    }

    /// A write of a NodeLayout was answered with this. It may be gone by now, and its watch may know.
    pub fn layout_written(&mut self, layout: NodeLayout) {
        let name = layout.metadata.name.as_deref().unwrap_or_default();
        let revision = Revision::read(layout.metadata.resource_version.as_deref());
        if self.layouts.contains_key(name) || revision > self.layouts_seen {
            self.take(layout);
        }
    }

    fn take(&mut self, layout: NodeLayout) {
        let Some((name, layout)) = Layout::new(layout, &mut self.texts) else { return };
        if self.layouts.get(&name).is_none_or(|known| known.revision < layout.revision) {
            self.stale.insert(name.clone());
            self.layouts.insert(name, layout);
        }
    }

    /// The watch tells that a NodeLayout is gone.
    pub fn layout_gone(&mut self, metadata: &ObjectMeta) {
        self.layouts_seen = self.layouts_seen.max(Revision::read(metadata.resource_version.as_deref()));
        let name = metadata.name.as_deref().unwrap_or_default();
        let uid = metadata.uid.as_deref().unwrap_or_default();
        if self.layouts.get(name).is_some_and(|known| known.uid == uid) {
            self.layouts.remove(name);
            self.stale.insert(name.into());
        }
    }

    /// The NodeLayouts are known as they were when the server had come so far. A list tells of what there is, and only its own
    /// version tells of what is gone: without it a turn of such a one would never be over.
    pub fn layouts_seen_until(&mut self, revision: Revision) {
        self.layouts_seen = self.layouts_seen.max(revision);
    }

    /// The watch has listed these, and no others but what was written since are there.
    pub fn layouts_are(&mut self, names: &BTreeSet<NodeName>) {
        let seen = self.layouts_seen;
        let gone = |(name, layout): (&NodeName, &Layout)| {
            (!names.contains(name) && layout.revision <= seen).then(|| name.clone())
        };
        let gone: Vec<_> = self.layouts.iter().filter_map(gone).collect();
        for name in gone {
            self.layouts.remove(&name);
            self.stale.insert(name);
        }
    }

    /// Something of a node has changed that is told in no object of it.
    pub(crate) fn look_again(&mut self, node: &NodeName) {
        self.stale.insert(node.clone());
    }

    /// Makes anew what follows of nodes of which something has changed.
    pub(crate) fn assess(&mut self) {
        if !self.stale.is_empty() {
            // Once for all expressions.
            deep(|| self.assess_stale());
        }
        let Self { layouts, assessments, agents, domains, .. } = self;
        domains.look(domains::Nodes { layouts, assessments, agents });
    }

    fn assess_stale(&mut self) {
        for name in std::mem::take(&mut self.stale) {
            self.domains.node_is(&name, self.nodes.get(&name), self.layouts.get(&name));
            if let Some(before) = self.assessments.remove(&name) {
                self.censuses.leave(&name, &before);
            }
            if let Some(assessment) = self.assessed(&name) {
                self.censuses.enter(&name, &assessment);
                self.assessments.insert(name.clone(), assessment);
            }
            self.open.insert(name);
        }
    }

    /// What follows of a node by itself.
    pub(crate) fn assessed(&self, name: &NodeName) -> Option<Assessment> {
        let node = self.nodes.get(name)?;
        // A NodeLayout of an earlier node of this name says nothing about this one.
        let own = |layout: &&Layout| layout.owner.as_ref().is_none_or(|owner| *owner == node.uid);
        let layout = self.layouts.get(name).filter(own);
        Some(Assessment::new(name, node, layout, &self.policies, &self.functions))
    }

    pub(crate) fn policies(&self) -> &BTreeMap<PolicyName, Policy> {
        &self.policies
    }

    pub(crate) fn nodes(&self) -> &BTreeMap<NodeName, Node> {
        &self.nodes
    }

    pub(crate) fn layouts(&self) -> &BTreeMap<NodeName, Layout> {
        &self.layouts
    }

    pub(crate) fn layouts_seen(&self) -> Revision {
        self.layouts_seen
    }

    pub(crate) fn assessments(&self) -> &BTreeMap<NodeName, Assessment> {
        &self.assessments
    }

    pub(crate) fn census(&self, policy: &PolicyName) -> &Census {
        self.censuses.of(policy)
    }

    pub(crate) fn censuses(&self) -> &BTreeMap<PolicyName, Census> {
        self.censuses.all()
    }

    pub(crate) fn open(&self) -> &BTreeSet<NodeName> {
        &self.open
    }

    /// Opens the nodes whose turns have changed, or what may be done in them.
    pub(crate) fn open_turns(&mut self) {
        let mut turned = std::mem::take(&mut self.turned);
        for policy in self.policies.values() {
            let begins = turns::may_begin(policy, self.census(&policy.name));
            if self.began.get(&policy.name) != Some(&begins) {
                self.began.insert(policy.name.clone(), begins);
                turned.extend(policy.status.turns.iter().map(|turn| turn.node.clone()));
            }
        }
        let nodes = turned.iter().filter_map(|node| self.layouts.get_key_value(node.as_str()));
        self.open.extend(nodes.map(|(node, _)| node.clone()));
    }

    pub(crate) fn leave_open(&mut self, nodes: BTreeSet<NodeName>) {
        self.open = nodes;
    }

    /// The first device that follows another policy, with its node, and how many there are.
    pub(crate) fn conflicts(&self, policy: &Policy) -> Option<(&NodeName, &Conflict, usize)> {
        let census = self.census(&policy.name);
        let node = census.conflicted.first()?;
        let conflicts = &self.assessments.get(node)?.conflicts;
        let conflict = conflicts.iter().find(|conflict| conflict.policy == policy.name)?;
        Some((node, conflict, census.conflicts))
    }

    /// The first device of which a rule does not say whether it is about it, with its node.
    pub(crate) fn unclear(&self, policy: &Policy) -> Option<(&NodeName, &Unclear)> {
        let node = self.census(&policy.name).unclear.first()?;
        Some((node, self.assessments.get(node)?.unclear.get(&policy.name)?))
    }
}

/// The nodes that have a turn in one of these, and not the same one in the other.
fn turned(before: &[Turn], now: &[Turn]) -> Vec<String> {
    let [before, now] = [before, now].map(|turns| -> BTreeSet<_> {
        turns.iter().map(|turn| (turn.node.as_str(), turn.resource_version.as_str())).collect()
    });
    before.symmetric_difference(&now).map(|(node, _)| (*node).to_owned()).collect()
}
