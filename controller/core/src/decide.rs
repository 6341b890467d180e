//! What is to be written.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use tessera_policy::FINALIZER;

use crate::census::Census;
use crate::cluster::Cluster;
use crate::node::Layout;
use crate::policy::Policy;
use crate::turns::{self, Layouts};
use crate::{NodeName, PolicyName, Write, status};

/// Who may be changed.
pub(crate) struct Given<'a> {
    /// By node: the turns that are stored.
    turns: BTreeMap<&'a str, Vec<Stored<'a>>>,
    /// Of each policy that is gone though devices still follow it, the one node that may be changed: nobody says how many
    /// may be, and turns stand nowhere.
    forgotten: BTreeMap<&'a str, &'a NodeName>,
}

/// A turn that is stored.
struct Stored<'a> {
    policy: &'a PolicyName,
    resource_version: &'a str,
    /// The policy begins nothing now.
    held: bool,
}

impl Cluster {
    /// What is to be written, as far as is known. Nothing, where all is as it should be or is under way.
    ///
    /// The answers to writes are told to the cluster like what watches tell: a turn is used only once it is known to be
    /// stored. `now` is the time of transitions in conditions.
    pub fn decide(&mut self, now: Timestamp) -> Vec<Write> {
        self.assess();
        let policies = self.policies().values();
        let of_policies: Vec<_> =
            policies.filter_map(|policy| self.of_policy(policy, self.census(&policy.name), now)).collect();
        self.open_turns();
        let given = self.given();
        // What is to be done about a node follows of itself and of its turns, and it is open if they have changed.
        let concerned: BTreeSet<_> = self.open().iter().chain(given.forgotten.values().copied()).collect();
        let of_nodes: Vec<_> =
            concerned.into_iter().filter_map(|name| Some((name.clone(), self.of_node(name, &given)?))).collect();
        // Until what was decided is seen to be done, it is decided again.
        let (open, of_nodes): (BTreeSet<_>, Vec<_>) = of_nodes.into_iter().unzip();
        self.leave_open(open);
        of_policies.into_iter().chain(of_nodes).chain(self.domains.writes()).collect()
    }

    pub(crate) fn of_policy(&self, policy: &Policy, census: &Census, now: Timestamp) -> Option<Write> {
        let finalizers = |finalizers: Vec<String>| Write::Finalizers {
            policy: policy.name.clone(),
            resource_version: policy.resource_version.clone(),
            finalizers,
        };
        let others = || policy.finalizers.iter().filter(|finalizer| *finalizer != FINALIZER).cloned();
        match (policy.withdrawn, policy.is_finalized()) {
            (false, false) => return Some(finalizers(others().chain([FINALIZER.to_owned()]).collect())),
            (true, true) if census.about == 0 => return Some(finalizers(others().collect())),
            // Somebody else keeps it, and may do so for long.
            (true, false) => return None,
            (_, true) => {}
        }
        let turns = turns::next(policy, census, Layouts { all: self.layouts(), seen: self.layouts_seen() });
        let (conflicts, unclear) = (self.conflicts(policy), self.unclear(policy));
        let told = status::Told {
            policy,
            census,
            assessments: self.assessments(),
            conflicts,
            unclear,
            domains: &self.domains,
        };
        let status = status::status(&told, turns, now);
        (status != policy.status).then(|| {
            let (before, news) = (&policy.status, status::news(&policy.status, &status));
            let is_seen = before.observed_generation == status.observed_generation;
            Write::Status {
                policy: policy.name.clone(),
                resource_version: policy.resource_version.clone(),
                pressing: !news.is_empty() || !is_seen || before.turns != status.turns,
                news,
                status: Box::new(status),
            }
        })
    }

    pub(crate) fn given(&self) -> Given<'_> {
        let mut turns: BTreeMap<&str, Vec<Stored<'_>>> = BTreeMap::new();
        for policy in self.policies().values() {
            let held = !turns::may_begin(policy, self.census(&policy.name));
            for turn in &policy.status.turns {
                let stored = Stored { policy: &policy.name, resource_version: &turn.resource_version, held };
                turns.entry(&turn.node).or_default().push(stored);
            }
        }
        let gone = self.censuses().iter().filter(|(policy, _)| !self.policies().contains_key(*policy));
        let forgotten = gone.filter_map(|(policy, census)| {
            let mut waiting = census.pending.difference(&census.not_ready);
            Some((policy.as_ref(), census.in_flight.first().or_else(|| waiting.next())?))
        });
        Given { turns, forgotten: forgotten.collect() }
    }

    pub(crate) fn of_node(&self, name: &NodeName, given: &Given<'_>) -> Option<Write> {
        let node = self.nodes().get(name);
        let Some(layout) = self.layouts().get(name) else {
            let uid = node?.uid.clone();
            let selected = self.assessments().get(name).is_some_and(|assessment| assessment.selected);
            return (selected || self.agents.has(name)).then(|| Write::Create { node: name.clone(), uid });
        };
        if layout.ends {
            return None;
        }
        if node.is_none_or(|node| layout.owner.as_ref().is_some_and(|owner| *owner != node.uid)) {
            return Some(delete(name, layout, Some(layout.owner.clone().unwrap_or_default())));
        }
        let assessment = self.assessments().get(name)?;
        let turns: Vec<_> = given.turns.get(name.as_ref()).into_iter().flatten().collect();
        let turns: Vec<_> = turns.iter().filter(|turn| turn.resource_version == layout.resource_version).collect();
        // Nobody there would hear of it: what was not begun is left, so that others get their turn.
        let is_ready = assessment.not_ready_since.is_none();
        let has_turn = |policy: &str| {
            let has_turn = turns.iter().any(|turn| turn.policy.as_ref() == policy && !turn.held);
            is_ready && (has_turn || given.forgotten.get(policy).is_some_and(|next| *next == name))
        };
        let resource_version = layout.resource_version.clone();
        if let Some(devices) = assessment.next(layout, &has_turn) {
            return Some(Write::Layout { node: name.clone(), resource_version, devices });
        }
        if layout.desired.is_empty() && !assessment.selected && !self.agents.may_have(name) {
            return Some(delete(name, layout, None));
        }
        // A turn that changes nothing any more must not be used later by somebody who thought that it would.
        let in_flight =
            |policy: &PolicyName| assessment.standings.get(policy).is_some_and(|standing| standing.in_flight.is_some());
        let unused = turns.iter().any(|turn| !in_flight(turn.policy));
        unused.then(|| Write::Fence { node: name.clone(), resource_version })
    }
}

fn delete(node: &NodeName, layout: &Layout, gone: Option<String>) -> Write {
    let (uid, resource_version) = (layout.uid.clone(), layout.resource_version.clone());
    Write::Delete { node: node.clone(), uid, resource_version, gone }
}
