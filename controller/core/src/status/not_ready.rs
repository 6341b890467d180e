//! What is said of nodes that are not ready: they count as unavailable, and nothing can be changed there.

use super::{Told, count, listed};
use crate::NodeName;
use crate::census::Census;

/// Those on which something is or would have to be changed: `n7 (not ready since 2026-11-20T08:00:00Z) and 2 more`.
pub(super) fn waited_for(told: &Told<'_>) -> Option<String> {
    let open = open(told.census);
    (!open.is_empty()).then(|| named(told, &open))
}

/// What keeps a policy from going on, if that is nodes that are not ready alone, and what to do.
pub(super) fn held_up(told: &Told<'_>) -> Option<String> {
    let Census { in_flight, not_ready, to_come, about, .. } = told.census;
    if not_ready.is_empty() || in_flight.iter().any(|node| !not_ready.contains(node)) {
        return None;
    }
    if *to_come == 0 {
        let waited_for = waited_for(told)?;
        return Some(format!("waiting for {waited_for}: bring what is not ready back, or delete its Node"));
    }
    if told.policy.rollout.paused || not_ready.len() < told.policy.max_unavailable(*about) {
        return None;
    }
    let all: Vec<_> = not_ready.iter().collect();
    Some(format!(
        "{to_come} to come, and no further node is begun while as many are unavailable as rollout.maxUnavailable allows, \
         {}: {}; bring them back, delete their Nodes or allow more",
        count(u32::try_from(all.len()).unwrap_or(u32::MAX), "node"),
        named(told, &all)
    ))
}

fn open(census: &Census) -> Vec<&NodeName> {
    let is_open = |node: &&NodeName| census.in_flight.contains(*node) || census.pending.contains(*node);
    census.not_ready.iter().filter(is_open).collect()
}

fn named(told: &Told<'_>, nodes: &[&NodeName]) -> String {
    let since = |node: &NodeName| told.assessments.get(node).and_then(|assessment| assessment.not_ready_since);
    let names = nodes
        .iter()
        .map(|node| since(node).map_or_else(|| node.to_string(), |since| format!("{node} (not ready since {since})")));
    listed(names, nodes.len())
}
