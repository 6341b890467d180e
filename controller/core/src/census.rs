//! The nodes of a policy, by what is asked of all of them together.

use std::collections::{BTreeMap, BTreeSet};

use tessera_policy::{Order, Tally};

use crate::standing::{Assessment, Standing};
use crate::{NodeName, PolicyName};

/// The nodes of one policy. A node enters and leaves by itself, so what a change costs does not grow with the number of nodes;
/// nodes of which there is nothing to be said are counted and not kept.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Census {
    /// How many nodes are how far.
    pub(crate) tally: Tally,
    /// The devices of all nodes.
    pub(crate) devices: u32,
    /// How many nodes have any.
    pub(crate) about: usize,
    /// How many devices follow another policy.
    pub(crate) conflicts: usize,
    /// On how many nodes that are ready something is to be changed and nothing is.
    pub(crate) to_come: usize,
    /// The nodes on which something is drained or changed.
    pub(crate) in_flight: BTreeSet<NodeName>,
    /// Those on which something failed.
    pub(crate) failed: BTreeSet<NodeName>,
    /// Those whose agents were never heard of.
    pub(crate) silent: BTreeSet<NodeName>,
    /// Those that are not ready and have devices.
    pub(crate) not_ready: BTreeSet<NodeName>,
    /// Those with devices that follow another policy.
    pub(crate) conflicted: BTreeSet<NodeName>,
    /// Those with devices of which a rule does not say whether it is about them.
    pub(crate) unclear: BTreeSet<NodeName>,
    /// Those on which something is to be changed.
    pub(crate) pending: BTreeSet<NodeName>,
    /// The same, with the number of devices to be changed that somebody uses.
    pub(crate) least_used: BTreeSet<(u32, NodeName)>,
}

/// How far a node is.
#[derive(Clone, Copy)]
enum Stage {
    Ready,
    Changing,
    Failed,
    Waiting,
}

impl Stage {
    /// `None` where the policy is about nothing of the node.
    fn of(standing: &Standing) -> Option<Self> {
        if standing.in_flight.is_some() {
            Some(Self::Changing)
        } else if !standing.failures.is_empty() {
            Some(Self::Failed)
        } else if standing.pending > 0 || standing.silent {
            Some(Self::Waiting)
        } else {
            (standing.devices > 0).then_some(Self::Ready)
        }
    }

    fn count(self, tally: &mut Tally) -> &mut u32 {
        match self {
            Self::Ready => &mut tally.ready,
            Self::Changing => &mut tally.changing,
            Self::Failed => &mut tally.failed,
            Self::Waiting => &mut tally.waiting,
        }
    }
}

impl Census {
    /// The nodes on which something is to be changed, those first that are to come first.
    pub(crate) fn in_order(&self, order: Order) -> Box<dyn Iterator<Item = &NodeName> + '_> {
        match order {
            Order::LeastUsed => Box::new(self.least_used.iter().map(|(_, node)| node)),
            Order::Name => Box::new(self.pending.iter()),
        }
    }

    /// Counts a node.
    pub(crate) fn enter(&mut self, node: &NodeName, standing: &Standing, ready: bool) {
        if let Some(stage) = Stage::of(standing) {
            *stage.count(&mut self.tally) += 1;
            self.tally.matched += 1;
        }
        self.devices += standing.devices;
        self.about += usize::from(standing.devices > 0);
        self.to_come += usize::from(is_to_come(standing, ready));
        for (set, is_in) in self.sets(standing, ready) {
            if is_in {
                set.insert(node.clone());
            }
        }
        if standing.pending > 0 {
            self.least_used.insert((standing.used, node.clone()));
        }
    }

    /// Counts it no more: it was counted with this.
    fn leave(&mut self, node: &NodeName, standing: &Standing, ready: bool) {
        if let Some(stage) = Stage::of(standing) {
            *stage.count(&mut self.tally) -= 1;
            self.tally.matched -= 1;
        }
        self.devices -= standing.devices;
        self.about -= usize::from(standing.devices > 0);
        self.to_come -= usize::from(is_to_come(standing, ready));
        for (set, is_in) in self.sets(standing, ready) {
            if is_in {
                set.remove(node);
            }
        }
        self.least_used.remove(&(standing.used, node.clone()));
    }

    /// Which sets a node with this standing is in.
    fn sets(&mut self, standing: &Standing, ready: bool) -> [(&mut BTreeSet<NodeName>, bool); 5] {
        [
            (&mut self.in_flight, standing.in_flight.is_some()),
            (&mut self.failed, !standing.failures.is_empty()),
            (&mut self.silent, standing.silent),
            (&mut self.not_ready, !ready && standing.devices > 0),
            (&mut self.pending, standing.pending > 0),
        ]
    }
}

fn is_to_come(standing: &Standing, ready: bool) -> bool {
    ready && standing.in_flight.is_none() && standing.pending > 0
}

/// Of each policy that anything of any node has to do with, its nodes.
#[derive(Debug, Default)]
pub(crate) struct Censuses {
    all: BTreeMap<PolicyName, Census>,
    nobody: Census,
}

impl Censuses {
    pub(crate) fn of(&self, policy: &PolicyName) -> &Census {
        self.all.get(policy).unwrap_or(&self.nobody)
    }

    pub(crate) fn all(&self) -> &BTreeMap<PolicyName, Census> {
        &self.all
    }

    /// Counts a node.
    pub(crate) fn enter(&mut self, node: &NodeName, assessment: &Assessment) {
        for (policy, standing) in &assessment.standings {
            self.of_mut(policy).enter(node, standing, assessment.not_ready_since.is_none());
        }
        for conflict in &assessment.conflicts {
            let census = self.of_mut(&conflict.policy);
            census.conflicts += 1;
            census.conflicted.insert(node.clone());
        }
        for policy in assessment.unclear.keys() {
            self.of_mut(policy).unclear.insert(node.clone());
        }
    }

    /// Counts it no more: it was counted with this.
    pub(crate) fn leave(&mut self, node: &NodeName, assessment: &Assessment) {
        for (policy, standing) in &assessment.standings {
            self.of_mut(policy).leave(node, standing, assessment.not_ready_since.is_none());
        }
        for conflict in &assessment.conflicts {
            let census = self.of_mut(&conflict.policy);
            census.conflicts -= 1;
            census.conflicted.remove(node);
        }
        for policy in assessment.unclear.keys() {
            self.of_mut(policy).unclear.remove(node);
        }
        let conflicts = assessment.conflicts.iter().map(|conflict| &conflict.policy);
        for policy in assessment.standings.keys().chain(assessment.unclear.keys()).chain(conflicts) {
            if self.all.get(policy).is_some_and(|census| *census == self.nobody) {
                self.all.remove(policy);
            }
        }
    }

    fn of_mut(&mut self, policy: &PolicyName) -> &mut Census {
        self.all.entry(policy.clone()).or_default()
    }
}
