//! How far a policy is, for people and for whoever waits for it.

mod not_ready;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use tessera_policy::{Failure, PartitionPolicyStatus, Tally, Turn};

use crate::NodeName;
use crate::assignment::{Conflict, Unclear};
use crate::census::Census;
use crate::domains::{self, DOMAINS_OFFERED, Domains};
use crate::policy::{Policy, rule_fault};
use crate::standing::{Assessment, Standing};

/// So many failures are named.
const FAILURES: usize = 10;
/// So many nodes are named in a message.
const NAMES: usize = 3;
/// The API takes no longer message in a condition.
const MESSAGE_BYTES: usize = 32_768;

/// The condition that says whether all is done.
const READY: &str = "Ready";

/// What a status is made of.
pub(crate) struct Told<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) census: &'a Census,
    pub(crate) assessments: &'a BTreeMap<NodeName, Assessment>,
    pub(crate) conflicts: Option<(&'a NodeName, &'a Conflict, usize)>,
    pub(crate) unclear: Option<(&'a NodeName, &'a Unclear)>,
    pub(crate) domains: &'a Domains,
}

impl<'a> Told<'a> {
    /// How far these nodes are.
    fn standings(&self, nodes: &'a BTreeSet<NodeName>) -> impl Iterator<Item = (&'a NodeName, &'a Standing)> {
        let standing = |node| self.assessments.get(node)?.standings.get(&self.policy.name);
        nodes.iter().filter_map(move |node| Some((node, standing(node)?)))
    }
}

/// The status of a policy with these turns. A condition keeps the time at which it became what it is.
pub(crate) fn status(told: &Told<'_>, turns: Vec<Turn>, now: Timestamp) -> PartitionPolicyStatus {
    let Census { tally: nodes, devices, .. } = *told.census;
    // By node, and of each node by device.
    let failures = told.standings(&told.census.failed).flat_map(|(_, standing)| standing.failures.iter().cloned());
    let failures: Vec<Failure> = failures.take(FAILURES).collect();
    let said = [ready(told, nodes, devices, &failures), conflicted(told), stopped(told)];
    let said = said.into_iter().chain(domains_offered(told));
    let conditions = said.map(|said| said.since(&told.policy.status.conditions, told.policy.generation, now)).collect();
    PartitionPolicyStatus { observed_generation: told.policy.generation, nodes, devices, turns, failures, conditions }
}

/// The conditions that have become something else. One that says for the first time that all is well is no news.
pub(crate) fn news(before: &PartitionPolicyStatus, after: &PartitionPolicyStatus) -> Vec<Condition> {
    let is_news = |condition: &&Condition| {
        let known = before.conditions.iter().find(|known| known.type_ == condition.type_);
        let is_told = condition.type_ == READY || condition.status == "True" || domains::is_alarm(condition);
        known.map_or(is_told, |known| (&known.status, &known.reason) != (&condition.status, &condition.reason))
    };
    after.conditions.iter().filter(is_news).cloned().collect()
}

/// A condition without its time.
struct Said {
    type_: &'static str,
    status: bool,
    reason: &'static str,
    message: String,
}

impl Said {
    fn since(self, before: &[Condition], generation: Option<i64>, now: Timestamp) -> Condition {
        let status = if self.status { "True" } else { "False" };
        let same = before.iter().find(|condition| condition.type_ == self.type_ && condition.status == status);
        // The server keeps whole seconds.
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let mut message = self.message;
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES));
        Condition {
            last_transition_time: same.map_or(Time(now), |condition| condition.last_transition_time.clone()),
            message,
            observed_generation: generation,
            reason: self.reason.to_owned(),
            status: status.to_owned(),
            type_: self.type_.to_owned(),
        }
    }
}

fn ready(told: &Told<'_>, nodes: Tally, devices: u32, failures: &[Failure]) -> Said {
    let said = |status, reason, message| Said { type_: READY, status, reason, message };
    let policy = told.policy;
    let rest = rest(told);
    if policy.withdrawn {
        let message = format!(
            "{} of {} are given back before the policy goes{rest}",
            count(devices, "device"),
            count(nodes.matched, "node")
        );
        return said(false, "Withdrawing", message);
    }
    if let Some(fault) = policy.fault() {
        return said(false, "Invalid", fault);
    }
    if let Some((node, unclear)) = told.unclear {
        let device = format!("{} of node {node}", unclear.device.name);
        let error = format!("its expression fails at {device}: {}", unclear.error);
        let advice = "name the driver in the rule, or ask whether the name is there first ('name' in device.attributes['domain'])";
        return said(false, "Invalid", rule_fault(unclear.rule, &error, advice));
    }
    let open = nodes.matched - nodes.ready;
    if open == 0 {
        return match (devices, told.conflicts) {
            (0, Some(_)) => {
                said(false, "Conflicted", "all devices that match follow other policies; see Conflicted".to_owned())
            }
            (0, None) => {
                said(false, "NoDevices", "no device of any node matches; check nodeSelector and rules".to_owned())
            }
            _ => said(
                true,
                "Complete",
                format!("{} of {} have their layout", count(devices, "device"), count(nodes.matched, "node")),
            ),
        };
    }
    let ready = format!("{} of {} have their layout", nodes.ready, count(nodes.matched, "node"));
    if let Some(first) = failures.first() {
        let first = format!("node {}, {}: {}", first.node, first.device.name, first.message);
        return said(
            false,
            "Failed",
            format!("{ready}, {} failed ({first}); put it right and set another rollout.attempt{rest}", nodes.failed),
        );
    }
    if let Some(waits) = not_ready::held_up(told) {
        return said(false, "Waiting", format!("{ready}; {waits}"));
    }
    if policy.rollout.paused && nodes.changing == 0 {
        return said(false, "Paused", format!("{ready}; rollout.paused is set{rest}"));
    }
    let silent = &told.census.silent;
    if !silent.is_empty() && u32::try_from(silent.len()) == Ok(open) {
        let advice = "see whether tessera-agent runs there, or select nodes that have one";
        return said(
            false,
            "Waiting",
            format!(
                "{ready}; nothing was heard yet from the agents of {}: {advice}",
                listed(silent.iter(), silent.len())
            ),
        );
    }
    said(false, "RollingOut", format!("{ready}{rest}"))
}

/// What is under way and what has to be waited for: `; changing: n1 (gpu-0: 2 pods), n2; 3 wait for their turn`.
fn rest(told: &Told<'_>) -> String {
    let Census { in_flight, silent, to_come, not_ready, .. } = told.census;
    let mut text = String::new();
    let reachable = in_flight.len() - in_flight.intersection(not_ready).count();
    if reachable > 0 {
        let standings = told.standings(in_flight).filter(|(node, _)| !not_ready.contains(*node));
        let changing = standings.filter_map(|(node, standing)| {
            let (device, message) = standing.in_flight.as_ref()?;
            let said = if message.is_empty() { String::new() } else { format!(" ({}: {message})", device.name) };
            Some(format!("{node}{said}"))
        });
        text.push_str(&format!("; changing: {}", listed(changing, reachable)));
    }
    if let Some(waited_for) = not_ready::waited_for(told) {
        text.push_str(&format!("; waiting for {waited_for}"));
    }
    if *to_come > 0 {
        text.push_str(&format!("; {to_come} to come"));
    }
    if !silent.is_empty() {
        text.push_str(&format!("; nothing was heard yet from the agents of {}", listed(silent.iter(), silent.len())));
    }
    text
}

fn conflicted(told: &Told<'_>) -> Said {
    let said = |status, reason, message| Said { type_: "Conflicted", status, reason, message };
    match told.conflicts {
        None => said(false, "NoConflict", String::new()),
        Some((node, conflict, number)) => {
            let others = if number > 1 { format!(" and {} more", number - 1) } else { String::new() };
            let (device, follows) = (&conflict.device.name, &conflict.follows);
            let message = format!(
                "{device} of node {node} follows policy {follows}{others}; keep the policies apart by nodeSelector or rules"
            );
            said(true, "FollowsAnother", message)
        }
    }
}

fn stopped(told: &Told<'_>) -> Said {
    let said = |status, reason, message| Said { type_: "Stopped", status, reason, message };
    let number = told.census.failed.len();
    let rollout = &told.policy.rollout;
    if rollout.paused {
        said(true, "Paused", "rollout.paused is set: what has begun ends, and no further node is begun".to_owned())
    } else if told.policy.is_stopped_by(number) {
        let limit = rollout.max_failed.max(1);
        let message = format!(
            "{} failed, and rollout.maxFailed is {limit}: no further node is begun before what failed is put right \
             and rollout.attempt is another number",
            count(u32::try_from(number).unwrap_or(u32::MAX), "node")
        );
        said(true, "TooManyFailed", message)
    } else {
        said(false, "Proceeding", String::new())
    }
}

/// Nothing of a policy that has nothing to do with domains.
fn domains_offered(told: &Told<'_>) -> Option<Said> {
    domains::is_wanted_by(told.policy, told.domains).then(|| {
        let (status, reason, message) = domains::told(told.policy, told.domains);
        Said { type_: DOMAINS_OFFERED, status, reason, message }
    })
}

fn count(number: u32, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// The first of so many.
fn listed(names: impl Iterator<Item = impl ToString>, number: usize) -> String {
    let first: Vec<_> = names.take(NAMES).map(|name| name.to_string()).collect();
    let more = number.saturating_sub(NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", first.join(", "))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    use tessera_policy::{DeviceState, Layout, NodeLayout, PartitionPolicy, ReportedDevice, Rollout};

    use super::*;
    use crate::testing::{desired, gpu, gpus, layout, policy};
    use crate::{Cluster, Write};

    fn told(policies: Vec<PartitionPolicy>, layouts: Vec<NodeLayout>) -> PartitionPolicyStatus {
        let asked = policies[0].metadata.name.clone().unwrap();
        let mut cluster = Cluster::default();
        policies.into_iter().for_each(|policy| cluster.policy(policy));
        for layout in layouts {
            let name = layout.metadata.name.clone().unwrap();
            cluster.node(name.as_str().into(), format!("uid-of-{name}"), Default::default());
            cluster.layout(layout);
        }
        let now = Timestamp::from_second(1_000_000).unwrap();
        let status = cluster.decide(now).into_iter().find_map(|write| match write {
            Write::Status { policy, status, .. } if policy.as_ref() == asked => Some(*status),
            _ => None,
        });
        status.unwrap()
    }

    /// Tallies, then what the conditions say.
    fn brief(status: &PartitionPolicyStatus) -> String {
        let Tally { matched, ready, changing, failed, waiting } = status.nodes;
        let mut text = format!("{matched} = {ready} + {changing} + {failed} + {waiting}, {} devices", status.devices);
        for condition in &status.conditions {
            let Condition { type_, status, reason, message, .. } = condition;
            if status == "True" || type_ == "Ready" {
                text.push_str(&format!("\n{type_}={status} {reason}: {message}"));
            }
        }
        text
    }

    fn now(layout: Option<Layout>, state: DeviceState, message: &str) -> Vec<ReportedDevice> {
        vec![ReportedDevice { layout, state, message: message.to_owned(), ..gpu("gpu-0") }]
    }

    fn whole() -> Vec<tessera_policy::DesiredDevice> {
        vec![desired("gpu-0", "p", Some(Layout::whole()))]
    }

    fn done(node: &str) -> NodeLayout {
        layout(node, whole(), now(Some(Layout::whole()), DeviceState::Ready, ""))
    }

    fn busy(node: &str) -> NodeLayout {
        layout(node, whole(), now(None, DeviceState::Draining, "waits for 2 pods"))
    }

    fn broken(node: &str) -> NodeLayout {
        layout(node, whole(), now(None, DeviceState::Failed, "NVML: in use; end what holds it"))
    }

    /// The same layouts, of nodes of which these are not ready.
    fn told_without(not_ready: &[&str], rollout: Rollout, layouts: Vec<NodeLayout>) -> PartitionPolicyStatus {
        let mut policy = policy("p");
        policy.spec.rollout = rollout;
        let mut cluster = Cluster::default();
        cluster.policy(policy);
        for layout in layouts {
            let name = layout.metadata.name.clone().unwrap();
            cluster.node(name.as_str().into(), format!("uid-of-{name}"), Default::default());
            cluster.layout(layout);
        }
        let since = Timestamp::from_second(1_000_000).unwrap();
        not_ready.iter().for_each(|node| cluster.node_readiness(&(*node).into(), Some(since)));
        let status = cluster.decide(since).into_iter().find_map(|write| match write {
            Write::Status { status, .. } => Some(*status),
            _ => None,
        });
        status.unwrap()
    }

    #[test]
    fn nodes_that_are_not_ready_are_waited_for_by_name() {
        let to_come = |node: &str| layout(node, Vec::new(), gpus(1));
        let allowing = |number: i32| Rollout { max_unavailable: IntOrString::Int(number), ..Rollout::default() };
        let cases = [
            ("it is changing", told_without(&["b"], allowing(2), vec![done("a"), busy("b"), to_come("c")])),
            ("beside others", told_without(&["b"], allowing(2), vec![busy("a"), busy("b"), done("c")])),
            ("it alone is left", told_without(&["b"], allowing(1), vec![done("a"), to_come("b")])),
            ("it has all that is allowed", told_without(&["a"], allowing(1), vec![done("a"), to_come("b")])),
            ("it is done", told_without(&["a"], allowing(1), vec![done("a"), done("b")])),
            ("its agent was never heard of", told_without(&["a"], allowing(1), vec![silent("a"), done("b")])),
        ];
        let brief = |(name, status): &(&str, PartitionPolicyStatus)| {
            let turns: Vec<_> = status.turns.iter().map(|turn| turn.node.as_str()).collect();
            format!("{name}: {}, turns: {turns:?}", brief(status))
        };
        insta::assert_snapshot!(cases.iter().map(brief).collect::<Vec<_>>().join("\n\n"));
    }

    fn silent(node: &str) -> NodeLayout {
        NodeLayout { status: None, ..layout(node, Vec::new(), Vec::new()) }
    }

    #[test]
    fn says_how_far_it_is_and_what_to_do() {
        let to_come = || layout("z", Vec::new(), gpus(1));
        let mut paused = policy("p");
        paused.spec.rollout.paused = true;
        let mut wrong = policy("p");
        wrong.spec.rules[0].devices.cel = Some("device.driver ==".to_owned());
        let mut unclear = policy("p");
        unclear.spec.rules[0].devices.cel = Some("device.attributes['tpu.google.com'].tpuGen == 'v6e'".to_owned());
        let mut withdrawn = policy("p");
        withdrawn.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        let other = {
            let mut other = policy("o");
            other.metadata.creation_timestamp = Some(Time(Timestamp::from_second(-60).unwrap()));
            other
        };
        let cases = [
            ("nothing matches", told(vec![policy("p")], vec![])),
            ("all done", told(vec![policy("p")], vec![done("a"), done("b")])),
            ("under way", told(vec![policy("p")], vec![done("a"), busy("b"), to_come()])),
            ("failed", told(vec![policy("p")], vec![broken("a"), to_come()])),
            ("silent", told(vec![policy("p")], vec![done("a"), silent("b"), silent("c"), silent("d"), silent("e")])),
            ("paused", told(vec![paused], vec![done("a"), to_come()])),
            ("wrong", told(vec![wrong], vec![done("a"), to_come()])),
            ("unclear", told(vec![unclear], vec![done("a"), to_come()])),
            ("withdrawn", told(vec![withdrawn], vec![done("a"), busy("b")])),
            ("another's", told(vec![policy("p"), other], vec![layout("a", Vec::new(), gpus(2))])),
        ];
        let cases: Vec<_> = cases.iter().map(|(name, status)| format!("{name}: {}", brief(status))).collect();
        insta::assert_snapshot!(cases.join("\n\n"));
    }

    #[test]
    fn a_condition_keeps_its_time_for_as_long_as_it_is_what_it_is() {
        let times = |status: &PartitionPolicyStatus| -> Vec<i64> {
            status.conditions.iter().map(|condition| condition.last_transition_time.0.as_second()).collect()
        };
        let first = told(vec![policy("p")], vec![busy("a")]);
        assert_eq!(times(&first), [1_000_000; 3]);
        let mut earlier = first;
        for condition in &mut earlier.conditions {
            condition.last_transition_time = Time(Timestamp::from_second(5).unwrap());
        }
        let mut before = policy("p");
        before.status = Some(earlier);
        assert_eq!(times(&told(vec![before.clone()], vec![busy("a"), busy("b")])), [5; 3], "another message only");
        assert_eq!(times(&told(vec![before], vec![done("a")])), [1_000_000, 5, 5]);
    }

    #[test]
    fn what_follows_a_policy_that_cannot_be_read_stays() {
        let mut cluster = Cluster::default();
        cluster.node("a".into(), "uid-of-a".to_owned(), Default::default());
        cluster.layout(done("a"));
        cluster.policy_unreadable(policy("p").metadata, "no variant Zigzag");
        let writes = cluster.decide(Timestamp::UNIX_EPOCH);
        let [Write::Status { status, .. }] = &writes[..] else { panic!("{writes:?}") };
        let told = "Ready=False Invalid: it cannot be read: no variant Zigzag; nothing is changed until it can";
        assert_eq!(brief(status), format!("1 = 1 + 0 + 0 + 0, 1 devices\n{told}"));
        cluster.policy(policy("p"));
        assert!(
            matches!(&cluster.decide(Timestamp::UNIX_EPOCH)[..], [Write::Status { status, .. }] if brief(status).contains("Complete"))
        );
    }

    #[test]
    fn ten_failures_are_named() {
        let names: Vec<_> = (0..12).map(|index| format!("n{index:02}")).collect();
        let status = told(vec![policy("p")], names.iter().rev().map(|name| broken(name)).collect());
        let named: Vec<_> = status.failures.iter().map(|failure| failure.node.as_str()).collect();
        assert_eq!(named, names.iter().take(10).map(String::as_str).collect::<Vec<_>>());
        assert_eq!(status.nodes.failed, 12);
    }
}
