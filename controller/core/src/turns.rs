//! Whose turn it is.

use std::collections::{BTreeMap, BTreeSet};

use tessera_policy::Turn;

use crate::census::Census;
use crate::node::Layout;
use crate::policy::Policy;
use crate::{NodeName, Revision};

/// So many turns fit into a status, whatever the policy allows.
const AT_MOST: usize = 512;

/// The NodeLayouts, and how far their watch has come.
#[derive(Clone, Copy)]
pub(crate) struct Layouts<'a> {
    pub(crate) all: &'a BTreeMap<NodeName, Layout>,
    pub(crate) seen: Revision,
}

/// Whether a policy begins anything at all.
pub(crate) fn may_begin(policy: &Policy, census: &Census) -> bool {
    !policy.rollout.paused && policy.is_finalized() && !policy.is_stopped_by(census.failed.len())
}

/// The turns as they should be, by the name of the node.
pub(crate) fn next(policy: &Policy, census: &Census, layouts: Layouts<'_>) -> Vec<Turn> {
    let begins = may_begin(policy, census);
    let mut turns: BTreeMap<&str, Turn> = BTreeMap::new();
    for turn in &policy.status.turns {
        if !is_over(turn, census, layouts, begins) {
            turns.insert(&turn.node, turn.clone());
        }
    }
    if !begins {
        return turns.into_values().collect();
    }
    // Nobody can use what a node that is not ready has, whatever the reason.
    let unavailable = census.in_flight.iter().chain(&census.not_ready).map(AsRef::as_ref);
    let busy: BTreeSet<&str> = turns.keys().copied().chain(unavailable).collect();
    let room = policy.max_unavailable(census.about).saturating_sub(busy.len());
    let writable = |name| layouts.all.get(name).filter(|layout: &&Layout| !layout.ends).map(|layout| (name, layout));
    // What counts already takes no room.
    let counted = busy.iter().copied().filter(|name| waits(census, name)).filter_map(writable);
    let others = census.in_order(policy.rollout.order).map(AsRef::as_ref).filter(|name| !busy.contains(name));
    for (name, layout) in counted.chain(others.filter_map(writable).take(room)) {
        let holds = turns.get(name).map(|turn| Revision::read(Some(&turn.resource_version)));
        // A turn for what is newer than all that is known here was given by somebody who knows more.
        if holds.is_some_and(|holds| holds >= layout.revision) || (holds.is_none() && turns.len() >= AT_MOST) {
            continue;
        }
        turns.insert(name, Turn { node: name.to_owned(), resource_version: layout.resource_version.clone() });
    }
    turns.into_values().collect()
}

/// Whether a turn is over: its NodeLayout has moved on, and nothing is changing there. Until both are seen, somebody may still
/// use it or have used it.
fn is_over(turn: &Turn, census: &Census, layouts: Layouts<'_>, begins: bool) -> bool {
    let given = Revision::read(Some(&turn.resource_version));
    match layouts.all.get(turn.node.as_str()) {
        // The watch tells in order: what it is past and does not have is gone.
        None => layouts.seen >= given,
        Some(layout) => {
            let in_flight = census.in_flight.contains(turn.node.as_str());
            // One that was not used before its object moved on keeps its place, and is given anew for what it is now.
            let wanted = begins && waits(census, &turn.node);
            layout.revision > given && !in_flight && !wanted
        }
    }
}

/// Whether something is to be changed on a node that can be. One that is not ready is passed over until it is.
fn waits(census: &Census, node: &str) -> bool {
    census.pending.contains(node) && !census.not_ready.contains(node)
}

#[cfg(test)]
mod tests {
    use tessera_policy::{DeviceId, Failure, Order, PartitionPolicy, PartitionPolicyStatus};

    use super::*;
    use crate::facts::Texts;
    use crate::standing::Standing;
    use crate::testing::{id, layout, policy};

    /// A node: its name, the version of its NodeLayout, and how far it is.
    struct Node(&'static str, &'static str, Standing);

    fn pending(used: u32) -> Standing {
        Standing { devices: 1, pending: 1, used, ..Standing::default() }
    }

    fn changing() -> Standing {
        Standing { devices: 1, in_flight: Some((id("gpu-0"), String::new())), ..Standing::default() }
    }

    fn failing() -> Standing {
        let device: DeviceId = id("gpu-0");
        let failure = Failure { node: "n".to_owned(), device, message: String::new() };
        Standing { devices: 1, failures: vec![failure], ..Standing::default() }
    }

    fn settled() -> Standing {
        Standing { devices: 1, ..Standing::default() }
    }

    fn allowing(number: i32, turns: &[(&str, &str)]) -> PartitionPolicy {
        let turn =
            |(node, version): &(&str, &str)| Turn { node: (*node).to_owned(), resource_version: (*version).to_owned() };
        let mut policy = policy("p");
        policy.spec.rollout.max_unavailable = k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(number);
        let turns = turns.iter().map(turn).collect();
        policy.status = Some(PartitionPolicyStatus { turns, ..PartitionPolicyStatus::default() });
        policy
    }

    /// The turns that follow: `a@10 b@12`.
    fn told(policy: PartitionPolicy, nodes: &[Node], seen: &str) -> String {
        told_without(&[], policy, nodes, seen)
    }

    /// The same, while these nodes are not ready.
    fn told_without(not_ready: &[&str], policy: PartitionPolicy, nodes: &[Node], seen: &str) -> String {
        let policy = Policy::new(policy).unwrap();
        let all: BTreeMap<NodeName, Layout> = nodes
            .iter()
            .map(|Node(name, version, _)| {
                let mut layout = layout(name, Vec::new(), Vec::new());
                layout.metadata.resource_version = Some((*version).to_owned());
                Layout::new(layout, &mut Texts::default()).unwrap()
            })
            .collect();
        let mut census = Census::default();
        for Node(name, _, standing) in nodes {
            census.enter(&(*name).into(), standing, !not_ready.contains(name));
        }
        let turns = next(&policy, &census, Layouts { all: &all, seen: Revision::read(Some(seen)) });
        let turns: Vec<_> = turns.iter().map(|turn| format!("{}@{}", turn.node, turn.resource_version)).collect();
        turns.join(" ")
    }

    #[test]
    fn as_many_have_their_turn_as_are_allowed_and_the_least_used_first() {
        let nodes = || [Node("a", "10", pending(2)), Node("b", "11", pending(0)), Node("c", "12", pending(1))];
        assert_eq!(told(allowing(1, &[]), &nodes(), "12"), "b@11");
        assert_eq!(told(allowing(2, &[]), &nodes(), "12"), "b@11 c@12");
        assert_eq!(told(allowing(9, &[]), &nodes(), "12"), "a@10 b@11 c@12");
        let mut by_name = allowing(1, &[]);
        by_name.spec.rollout.order = Order::Name;
        assert_eq!(told(by_name, &nodes(), "12"), "a@10");
        let mut paused = allowing(1, &[]);
        paused.spec.rollout.paused = true;
        assert_eq!(told(paused, &nodes(), "12"), "");
        let mut new = allowing(1, &[]);
        new.metadata.finalizers = None;
        assert_eq!(told(new, &nodes(), "12"), "", "not before the finalizer is there");
    }

    #[test]
    fn what_is_changing_counts_whether_it_has_a_turn_or_not() {
        let nodes = [Node("a", "10", changing()), Node("b", "11", pending(0)), Node("c", "12", pending(0))];
        assert_eq!(told(allowing(1, &[]), &nodes, "12"), "");
        assert_eq!(told(allowing(2, &[]), &nodes, "12"), "b@11");
        assert_eq!(told(allowing(2, &[("a", "9")]), &nodes, "12"), "a@9 b@11");
    }

    #[test]
    fn a_node_that_is_not_ready_counts_and_is_passed_over() {
        let nodes = || [Node("a", "10", pending(0)), Node("b", "11", pending(0)), Node("c", "12", settled())];
        for (not_ready, allowed, turns, expected) in [
            (&["a"][..], 1, &[][..], ""),
            (&["a"], 2, &[], "b@11"),
            (&["c"], 1, &[], ""),
            (&["a", "c"], 3, &[], "b@11"),
            // It had its turn: that is kept until it is seen what became of it, and not given anew.
            (&["a"], 1, &[("a", "10")], "a@10"),
            (&["a"], 2, &[("a", "9")], "b@11"),
        ] {
            let told = told_without(not_ready, allowing(allowed, turns), &nodes(), "12");
            assert_eq!(told, expected, "{not_ready:?} {allowed} {turns:?}");
        }
        let nodes = [Node("a", "10", changing()), Node("b", "11", pending(0))];
        assert_eq!(told_without(&["a"], allowing(1, &[("a", "9")]), &nodes, "12"), "a@9");
        assert_eq!(told_without(&["a"], allowing(2, &[("a", "9")]), &nodes, "12"), "a@9 b@11");
    }

    #[test]
    fn too_many_failures_stop_it() {
        let nodes = || [Node("a", "10", failing()), Node("b", "11", pending(0))];
        assert_eq!(told(allowing(1, &[]), &nodes(), "12"), "");
        let mut patient = allowing(1, &[]);
        patient.spec.rollout.max_failed = 2;
        assert_eq!(told(patient, &nodes(), "12"), "b@11");
    }

    #[test]
    fn a_turn_ends_when_its_object_has_moved_on_and_is_settled() {
        for (turns, nodes, seen, expected) in [
            // Not used yet, or its use is not known yet.
            (&[("a", "10")][..], vec![Node("a", "10", settled())], "10", "a@10"),
            (&[("a", "10")], vec![Node("a", "9", settled())], "9", "a@10"),
            (&[("a", "10")], vec![Node("a", "11", changing())], "11", "a@10"),
            (&[("a", "10")], vec![Node("a", "11", settled())], "11", ""),
            // The next one follows at once.
            (&[("a", "10")], vec![Node("a", "12", settled()), Node("b", "11", pending(0))], "12", "b@11"),
            // It moved on before it was used: it keeps its place.
            (&[("b", "10")], vec![Node("a", "9", pending(0)), Node("b", "11", pending(5))], "11", "b@11"),
            (&[("b", "10")], vec![Node("b", "9", pending(0))], "9", "b@10"),
            // The object is gone, or is not known yet.
            (&[("gone", "10")], vec![Node("a", "11", pending(0))], "11", "a@11"),
            (&[("new", "12")], vec![Node("a", "11", pending(0))], "11", "new@12"),
        ] {
            assert_eq!(told(allowing(1, turns), &nodes, seen), expected, "{turns:?}");
        }
    }
}
