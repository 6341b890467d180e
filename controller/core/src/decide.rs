//! What is to be written.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use tessera_policy::{FINALIZER, Turn};

use crate::census::Census;
use crate::cluster::Cluster;
use crate::node::Layout;
use crate::policy::Policy;
use crate::turns::{self, Layouts};
use crate::{NodeName, PolicyName, Write, status};

/// Of each policy that is gone though devices still follow it, the one node that may be changed: nobody says how many may be, and
/// turns stand nowhere.
type Forgotten<'a> = BTreeMap<&'a str, &'a NodeName>;

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
        let forgotten = self.forgotten();
        // What is to be done about a node follows of itself and of its turns, and it is open if they have changed.
        let concerned: BTreeSet<_> = self.open().iter().chain(forgotten.values().copied()).collect();
        let of_nodes: Vec<_> =
            concerned.into_iter().filter_map(|name| Some((name.clone(), self.of_node(name, &forgotten)?))).collect();
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

    pub(crate) fn forgotten(&self) -> Forgotten<'_> {
        let gone = self.censuses().iter().filter(|(policy, _)| !self.policies().contains_key(*policy));
        let forgotten = gone.filter_map(|(policy, census)| {
            let mut waiting = census.pending.difference(&census.not_ready);
            Some((policy.as_ref(), census.in_flight.first().or_else(|| waiting.next())?))
        });
        forgotten.collect()
    }

    /// The policies that have given a node, as it is now, its turn.
    fn in_turn(&self, layout: &Layout, node: &NodeName) -> Vec<&Policy> {
        let is_turn = |turn: &Turn| turn.node == node.as_ref() && turn.resource_version == layout.resource_version;
        self.policies().values().filter(|policy| policy.status.turns.iter().any(is_turn)).collect()
    }

    pub(crate) fn of_node(&self, name: &NodeName, forgotten: &Forgotten<'_>) -> Option<Write> {
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
        let in_turn = self.in_turn(layout, name);
        // Nobody there would hear of it: what was not begun is left, so that others get their turn.
        let is_ready = assessment.not_ready_since.is_none();
        let has_turn = |policy: &str| {
            let mut given = in_turn.iter().filter(|one| one.name.as_ref() == policy);
            let has_turn = given.any(|one| turns::may_begin(one, self.census(&one.name)));
            is_ready && (has_turn || forgotten.get(policy).is_some_and(|next| *next == name))
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
        let unused = in_turn.iter().any(|policy| !in_flight(&policy.name));
        unused.then(|| Write::Fence { node: name.clone(), resource_version })
    }
}

fn delete(node: &NodeName, layout: &Layout, gone: Option<String>) -> Write {
    let (uid, resource_version) = (layout.uid.clone(), layout.resource_version.clone());
    Write::Delete { node: node.clone(), uid, resource_version, gone }
}
