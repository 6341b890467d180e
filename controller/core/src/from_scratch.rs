//! What is decided of what has changed is what would be decided of everything.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use proptest::prelude::*;
use tessera_policy::{DesiredDevice, DeviceState, Layout as Words, NodeLayout, Order, ReportedDevice, Tally, Turn};

use crate::census::Census;
use crate::policy::Policy;
use crate::standing::{Assessment, Standing};
use crate::testing::{desired, gpu, layout, policy, rule};
use crate::{Cluster, NodeName, PolicyName, Revision, Write, turns};

const POLICIES: [&str; 3] = ["p", "q", "r"];
const NODES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// All that follows of a view, from every node of it.
fn from_scratch(cluster: &Cluster, now: Timestamp) -> Vec<Write> {
    let assessed = |name: &NodeName| Some((name.clone(), cluster.assessed(name)?));
    let assessments: BTreeMap<_, _> = cluster.nodes().keys().filter_map(assessed).collect();
    let mut writes = Vec::new();
    let gone = cluster.censuses().keys().cloned();
    for name in cluster.policies().keys().cloned().chain(gone).collect::<BTreeSet<_>>() {
        assert_eq!(*cluster.census(&name), census(&name, &assessments), "{name}");
    }
    for policy in cluster.policies().values() {
        let census = census(&policy.name, &assessments);
        let write = cluster.of_policy(policy, &census, now);
        if let Some(Write::Status { status, .. }) = &write {
            assert_eq!(status.turns, turns(policy, &census, &assessments, cluster));
        }
        writes.extend(write);
    }
    let forgotten = cluster.forgotten();
    let names: BTreeSet<_> = cluster.nodes().keys().chain(cluster.layouts().keys()).collect();
    writes.extend(names.into_iter().filter_map(|name| cluster.of_node(name, &forgotten)));
    writes
}

/// The nodes of a policy, counted one question after the other.
fn census(policy: &PolicyName, assessments: &BTreeMap<NodeName, Assessment>) -> Census {
    let standings = || assessments.iter().filter_map(|(node, of)| Some((node, of.standings.get(policy)?)));
    let stage = |in_flight: bool, failed: Option<bool>, waits: Option<bool>| {
        let is = |(_, standing): &(&NodeName, &Standing)| {
            standing.in_flight.is_some() == in_flight
                && failed.is_none_or(|failed| standing.failures.is_empty() != failed)
                && waits.is_none_or(|waits| (standing.pending > 0 || standing.silent) == waits)
                && (standing.devices > 0 || in_flight || failed == Some(true) || waits == Some(true))
        };
        u32::try_from(standings().filter(is).count()).unwrap()
    };
    let (changing, failed) = (stage(true, None, None), stage(false, Some(true), None));
    let (waiting, ready) = (stage(false, Some(false), Some(true)), stage(false, Some(false), Some(false)));
    let matched = changing + failed + waiting + ready;
    let which = |holds: &dyn Fn(&Standing) -> bool| {
        standings().filter(|(_, standing)| holds(standing)).map(|(node, _)| node.clone()).collect::<BTreeSet<_>>()
    };
    let conflicts = |of: &Assessment| of.conflicts.iter().filter(|conflict| conflict.policy == *policy).count();
    let nodes = |holds: &dyn Fn(&Assessment) -> bool| {
        assessments.iter().filter(|(_, of)| holds(of)).map(|(node, _)| node.clone()).collect()
    };
    let pending = which(&|standing| standing.pending > 0);
    let away: BTreeSet<_> = nodes(&|of| of.not_ready_since.is_some());
    let used = |node: &NodeName| (assessments[node].standings[policy].used, node.clone());
    Census {
        tally: Tally { matched, ready, changing, failed, waiting },
        devices: standings().map(|(_, standing)| standing.devices).sum(),
        about: which(&|standing| standing.devices > 0).len(),
        conflicts: assessments.values().map(conflicts).sum(),
        to_come: which(&|standing| standing.in_flight.is_none() && standing.pending > 0).difference(&away).count(),
        in_flight: which(&|standing| standing.in_flight.is_some()),
        failed: which(&|standing| !standing.failures.is_empty()),
        silent: which(&|standing| standing.silent),
        conflicted: nodes(&|of| conflicts(of) > 0),
        not_ready: which(&|standing| standing.devices > 0).intersection(&away).cloned().collect(),
        unclear: nodes(&|of| of.unclear.contains_key(policy)),
        least_used: pending.iter().map(used).collect(),
        pending,
    }
}

/// The turns, by asking each node that waits for one.
fn turns(
    policy: &Policy,
    census: &Census,
    assessments: &BTreeMap<NodeName, Assessment>,
    cluster: &Cluster,
) -> Vec<Turn> {
    let begins = turns::may_begin(policy, census);
    let standing = |node: &str| assessments.get(node).and_then(|of| of.standings.get(&policy.name));
    let in_flight = |node: &str| standing(node).is_some_and(|standing| standing.in_flight.is_some());
    let is_ready = |node: &str| assessments.get(node).is_some_and(|of| of.not_ready_since.is_none());
    let waits = |node: &str| is_ready(node) && standing(node).is_some_and(|standing| standing.pending > 0);
    let is_away = |node: &str| !is_ready(node) && standing(node).is_some_and(|standing| standing.devices > 0);
    let is_over = |turn: &&Turn| {
        let given = Revision::read(Some(&turn.resource_version));
        cluster.layouts().get(turn.node.as_str()).map_or(cluster.layouts_seen() >= given, |layout| {
            let wanted = begins && waits(&turn.node);
            layout.revision > given && !in_flight(&turn.node) && !wanted
        })
    };
    let kept = policy.status.turns.iter().filter(|turn| !is_over(turn)).cloned();
    let mut turns: BTreeMap<String, Turn> = kept.map(|turn| (turn.node.clone(), turn)).collect();
    let mut busy: BTreeSet<String> = turns.keys().cloned().collect();
    busy.extend(assessments.keys().map(ToString::to_string).filter(|node| in_flight(node) || is_away(node)));
    let mut waiting: Vec<_> = assessments
        .keys()
        .filter_map(|node| Some((standing(node.as_ref()).filter(|_| waits(node.as_ref()))?.used, node)))
        .collect();
    waiting.sort_by_key(|(used, node)| (if policy.rollout.order == Order::Name { 0 } else { *used }, *node));
    for (_, node) in waiting.into_iter().filter(|_| begins) {
        let Some(layout) = cluster.layouts().get(node).filter(|layout| !layout.ends) else { continue };
        let name = node.to_string();
        let holds = turns.get(&name).map(|turn| Revision::read(Some(&turn.resource_version)));
        let has_room = busy.contains(&name) || busy.len() < policy.max_unavailable(census.about);
        if has_room && holds.is_none_or(|holds| holds < layout.revision) {
            busy.insert(name.clone());
            turns.insert(name.clone(), Turn { node: name, resource_version: layout.resource_version.clone() });
        }
    }
    turns.into_values().collect()
}

/// What may come to be known.
#[derive(Clone, Debug)]
enum News {
    Policy {
        which: usize,
        says: u8,
        versions_ago: u8,
    },
    PolicyGone {
        which: usize,
    },
    Node {
        which: usize,
        labelled: bool,
        again: bool,
    },
    Readiness {
        which: usize,
        ready: bool,
    },
    NodeGone {
        which: usize,
    },
    Layout {
        which: usize,
        devices: Vec<(u8, u8)>,
        agent: u8,
        ends: bool,
    },
    LayoutGone {
        which: usize,
    },
    /// Of what was decided last, what a bit is set for is done.
    Done(u8),
}

fn news() -> impl Strategy<Value = News> {
    let node = 0..NODES.len();
    let which = 0..POLICIES.len();
    let devices = proptest::collection::vec(any::<(u8, u8)>(), 0..3);
    prop_oneof![
        3 => (which.clone(), any::<u8>(), 0_u8..3)
            .prop_map(|(which, says, versions_ago)| News::Policy { which, says, versions_ago }),
        1 => which.prop_map(|which| News::PolicyGone { which }),
        3 => (node.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(which, labelled, again)| News::Node { which, labelled, again }),
        2 => (node.clone(), any::<bool>()).prop_map(|(which, ready)| News::Readiness { which, ready }),
        1 => node.clone().prop_map(|which| News::NodeGone { which }),
        9 => (node.clone(), devices, any::<u8>(), proptest::bool::weighted(0.1))
            .prop_map(|(which, devices, agent, ends)| News::Layout { which, devices, agent, ends }),
        1 => node.prop_map(|which| News::LayoutGone { which }),
        9 => any::<u8>().prop_map(News::Done),
    ]
}

/// What is known, and what was decided of it.
#[derive(Default)]
struct World {
    cluster: Cluster,
    revision: u64,
    decided: Vec<Write>,
    nodes: BTreeMap<usize, u64>,
    policies: BTreeMap<String, tessera_policy::PartitionPolicy>,
    layouts: BTreeMap<String, NodeLayout>,
}

fn words(which: u8) -> Words {
    match which % 3 {
        0 => Words::whole(),
        1 => Words::shares(2),
        _ => Words::dynamic(),
    }
}

impl World {
    fn next(&mut self) -> Option<String> {
        self.revision += 1;
        Some(self.revision.to_string())
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Policy { which, says, versions_ago } => {
                let name = POLICIES[which];
                let status = self.policies.get(name).and_then(|known| known.status.clone());
                let mut policy = said(name, says);
                self.revision += 1;
                policy.metadata.resource_version = Some(self.revision.saturating_sub(versions_ago.into()).to_string());
                policy.status = status;
                self.policies.insert(name.to_owned(), policy.clone());
                self.cluster.policy(policy);
            }
            News::PolicyGone { which } => {
                self.policies.remove(POLICIES[which]);
                self.cluster.policy_gone(&policy(POLICIES[which]).metadata);
            }
            News::Node { which, labelled, again } => {
                let life = self.nodes.entry(which).or_default();
                *life += u64::from(again);
                let uid = if *life == 0 { format!("uid-of-{}", NODES[which]) } else { life.to_string() };
                let labels = [("gpus".to_owned(), labelled.to_string())].into();
                self.cluster.node(NODES[which].into(), uid, labels);
            }
            News::Readiness { which, ready } => {
                self.cluster.node_readiness(&NODES[which].into(), (!ready).then_some(Timestamp::UNIX_EPOCH));
            }
            News::NodeGone { which } => self.cluster.node_gone(&NODES[which].into()),
            News::Layout { which, devices, agent, ends } => {
                let mut layout = reporting(NODES[which], &devices, agent);
                layout.metadata.resource_version = self.next();
                layout.metadata.deletion_timestamp = ends.then_some(Time(Timestamp::UNIX_EPOCH));
                self.layouts.insert(NODES[which].to_owned(), layout.clone());
                self.cluster.layout(layout);
            }
            News::LayoutGone { which } => {
                let mut layout = reporting(NODES[which], &[], 0);
                layout.metadata.resource_version = self.next();
                self.layouts.remove(NODES[which]);
                self.cluster.layout_gone(&layout.metadata);
            }
            News::Done(mask) => {
                let writes = std::mem::take(&mut self.decided).into_iter().enumerate();
                writes.filter(|(index, _)| mask >> (index % 8) & 1 == 1).for_each(|(_, write)| self.done(write));
            }
        }
    }

    fn done(&mut self, write: Write) {
        let version = self.next();
        let changed = |policies: &BTreeMap<String, tessera_policy::PartitionPolicy>, name: &PolicyName| {
            let mut policy = policies.get(name.as_ref())?.clone();
            policy.metadata.resource_version = version.clone();
            Some(policy)
        };
        match write {
            Write::Finalizers { policy, finalizers, .. } => {
                let Some(mut policy) = changed(&self.policies, &policy) else { return };
                policy.metadata.finalizers = Some(finalizers);
                self.policies.insert(policy.metadata.name.clone().unwrap(), policy.clone());
                self.cluster.policy(policy);
            }
            Write::Status { policy, status, .. } => {
                let Some(mut policy) = changed(&self.policies, &policy) else { return };
                policy.status = Some(*status);
                self.policies.insert(policy.metadata.name.clone().unwrap(), policy.clone());
                self.cluster.policy(policy);
            }
            Write::Create { node, .. } => {
                let mut layout = reporting(node.as_ref(), &[], 0);
                layout.metadata.resource_version = version;
                self.layouts.insert(node.to_string(), layout.clone());
                self.cluster.layout_written(layout);
            }
            Write::Layout { node, devices, .. } => {
                let Some(layout) = self.layouts.get_mut(node.as_ref()) else { return };
                layout.spec.devices = devices;
                layout.metadata.generation = layout.metadata.generation.map(|generation| generation + 1);
                layout.metadata.resource_version = version;
                self.cluster.layout_written(layout.clone());
            }
            Write::Fence { node, .. } => {
                let Some(layout) = self.layouts.get_mut(node.as_ref()) else { return };
                layout.metadata.resource_version = version;
                self.cluster.layout_written(layout.clone());
            }
            Write::Delete { node, .. } => {
                let Some(mut layout) = self.layouts.remove(node.as_ref()) else { return };
                layout.metadata.resource_version = version;
                self.cluster.layout_gone(&layout.metadata);
            }
            // Nothing lies in a domain here.
            Write::Domain(_) => {}
        }
    }
}

/// A policy that says one thing or another.
fn said(name: &str, says: u8) -> tessera_policy::PartitionPolicy {
    let mut policy = policy(name);
    let everywhere = says & 1 == 1;
    let labels = [("gpus".to_owned(), "true".to_owned())].into();
    let selector = LabelSelector { match_labels: Some(labels), ..LabelSelector::default() };
    policy.spec.node_selector = (!everywhere).then_some(selector);
    policy.spec.rules = vec![rule(words(says >> 1), (says & 8 != 0).then_some(1))];
    if says & 16 != 0 {
        policy.spec.rules[0].devices.cel = Some("device.attributes['gpu.nvidia.com'].index < 1".to_owned());
    }
    policy.spec.rollout.paused = says.is_multiple_of(11);
    policy.spec.rollout.attempt = u32::from(says >> 6);
    policy.spec.rollout.max_unavailable = IntOrString::Int(i32::from(says >> 5 & 3));
    policy.spec.rollout.max_failed = 1 + u32::from(says & 2);
    policy.spec.rollout.order = if says & 4 == 0 { Order::Name } else { Order::LeastUsed };
    if says.is_multiple_of(13) {
        policy.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    }
    policy
}

/// A NodeLayout whose devices are told and report one thing or another.
fn reporting(node: &str, devices: &[(u8, u8)], agent: u8) -> NodeLayout {
    let (mut told, mut reported): (Vec<DesiredDevice>, Vec<ReportedDevice>) = Default::default();
    for (index, (says, is)) in devices.iter().enumerate() {
        let name = format!("gpu-{index}");
        if says & 1 == 1 {
            let policy = ["p", "q", "r", "forgotten"][usize::from(says >> 1 & 3)];
            told.push(desired(&name, policy, (says & 8 == 0).then(|| words(says >> 4))));
        }
        let state = [DeviceState::Ready, DeviceState::Ready, DeviceState::Draining, DeviceState::Failed];
        let mut device = gpu(&name);
        device.layout = (is & 1 == 1).then(|| words(is >> 1));
        device.state = state[usize::from(is >> 3 & 3)];
        device.users = u32::from(is >> 5 & 1);
        if is & 64 != 0 {
            device.attributes.remove("gpu.nvidia.com/index");
        }
        reported.push(device);
    }
    let mut layout = layout(node, told, reported);
    match agent % 8 {
        0 => layout.status = None,
        1 => layout.metadata.generation = Some(2),
        _ => {}
    }
    layout
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn what_has_changed_is_enough_to_look_at(all in proptest::collection::vec((news(), any::<bool>()), 0..80)) {
        let mut world = World::default();
        for (news, decides) in all {
            world.hear(news);
            if decides {
                let decided = world.cluster.decide(Timestamp::UNIX_EPOCH);
                prop_assert_eq!(&decided, &from_scratch(&world.cluster, Timestamp::UNIX_EPOCH));
                world.decided = decided;
            }
        }
    }
}
