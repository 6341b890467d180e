//! What is to be written.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use tessera_policy::FINALIZER;

use crate::cluster::Cluster;
use crate::node::Layout;
use crate::policy::Policy;
use crate::turns::{self, Layouts, Member};
use crate::{NodeName, PolicyName, Write, status};

/// The nodes of each policy.
type Members<'a> = BTreeMap<&'a str, Vec<Member<'a>>>;

/// Who may be changed.
struct Given<'a> {
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
        let members = self.members();
        let policies = self.policies().values();
        let mut writes: Vec<_> = policies.filter_map(|policy| self.of_policy(policy, &members, now)).collect();
        let given = self.given(&members);
        let without_node = self.layouts().keys().filter(|name| !self.nodes().contains_key(*name));
        writes.extend(self.nodes().keys().chain(without_node).filter_map(|name| self.of_node(name, &given)));
        writes
    }

    fn members(&self) -> Members<'_> {
        let mut members = Members::new();
        for (node, assessment) in self.assessments() {
            for (policy, standing) in &assessment.standings {
                let member = Member { node, standing, layout: self.layouts().get(node) };
                members.entry(policy.as_ref()).or_default().push(member);
            }
        }
        members
    }

    fn of_policy(&self, policy: &Policy, members: &Members<'_>, now: Timestamp) -> Option<Write> {
        let members = of(members, &policy.name);
        let has_devices = members.iter().any(|member| member.standing.devices > 0);
        let finalizers = |finalizers: Vec<String>| Write::Finalizers {
            policy: policy.name.clone(),
            resource_version: policy.resource_version.clone(),
            finalizers,
        };
        let others = || policy.finalizers.iter().filter(|finalizer| *finalizer != FINALIZER).cloned();
        match (policy.withdrawn, policy.is_finalized()) {
            (false, false) => return Some(finalizers(others().chain([FINALIZER.to_owned()]).collect())),
            (true, true) if !has_devices => return Some(finalizers(others().collect())),
            // Somebody else keeps it, and may do so for long.
            (true, false) => return None,
            (_, true) => {}
        }
        let turns = turns::next(policy, members, Layouts { all: self.layouts(), seen: self.layouts_seen() });
        let (conflicts, unclear) = (self.conflicts(policy), self.unclear(policy));
        let status = status::status(&status::Told { policy, members, conflicts, unclear }, turns, now);
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

    fn given<'a>(&'a self, members: &Members<'a>) -> Given<'a> {
        let mut turns: BTreeMap<&str, Vec<Stored<'_>>> = BTreeMap::new();
        for policy in self.policies().values() {
            let held = !turns::may_begin(policy, of(members, &policy.name));
            for turn in &policy.status.turns {
                let stored = Stored { policy: &policy.name, resource_version: &turn.resource_version, held };
                turns.entry(&turn.node).or_default().push(stored);
            }
        }
        let gone = members.iter().filter(|(policy, _)| !self.policies().contains_key(**policy));
        let forgotten = gone.filter_map(|(policy, members)| {
            let in_flight = members.iter().find(|member| member.standing.in_flight.is_some());
            let next = in_flight.or_else(|| members.iter().find(|member| member.standing.pending > 0))?;
            Some((*policy, next.node))
        });
        Given { turns, forgotten: forgotten.collect() }
    }

    fn of_node(&self, name: &NodeName, given: &Given<'_>) -> Option<Write> {
        let node = self.nodes().get(name);
        let Some(layout) = self.layouts().get(name) else {
            let uid = node?.uid.clone();
            let selected = self.assessments().get(name).is_some_and(|assessment| assessment.selected);
            return selected.then(|| Write::Create { node: name.clone(), uid });
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
        let has_turn = |policy: &str| {
            turns.iter().any(|turn| turn.policy.as_ref() == policy && !turn.held)
                || given.forgotten.get(policy).is_some_and(|next| *next == name)
        };
        let resource_version = layout.resource_version.clone();
        if let Some(devices) = assessment.next(layout, &has_turn) {
            return Some(Write::Layout { node: name.clone(), resource_version, devices });
        }
        if layout.desired.is_empty() && !assessment.selected {
            return Some(delete(name, layout, None));
        }
        // A turn that changes nothing any more must not be used later by somebody who thought that it would.
        let in_flight =
            |policy: &PolicyName| assessment.standings.get(policy).is_some_and(|standing| standing.in_flight.is_some());
        let unused = turns.iter().any(|turn| !in_flight(turn.policy));
        unused.then(|| Write::Fence { node: name.clone(), resource_version })
    }
}

fn of<'a, 'b>(members: &'b Members<'a>, policy: &PolicyName) -> &'b [Member<'a>] {
    members.get(policy.as_ref()).map_or(&[], Vec::as_slice)
}

fn delete(node: &NodeName, layout: &Layout, gone: Option<String>) -> Write {
    let (uid, resource_version) = (layout.uid.clone(), layout.resource_version.clone());
    Write::Delete { node: node.clone(), uid, resource_version, gone }
}
