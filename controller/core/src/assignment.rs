//! Who has which device of a node.

use std::collections::{BTreeMap, BTreeSet};

use tessera_policy::DeviceId;

use crate::PolicyName;
use crate::expression::Functions;
use crate::node::Layout;
use crate::policy::Policy;
use crate::rule::Verdict;

/// What policies make of the devices of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) targets: BTreeMap<DeviceId, Target>,
    pub(crate) conflicts: Vec<Conflict>,
    /// Of each policy, what nobody can know.
    pub(crate) unclear: BTreeMap<PolicyName, Unclear>,
}

/// What a device is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// What this rule of this policy says.
    Rule(PolicyName, usize),
    /// What it is told to be already: its policy does not say anything that can be understood.
    Kept(PolicyName),
}

impl Target {
    pub(crate) fn policy(&self) -> &PolicyName {
        match self {
            Self::Rule(policy, _) | Self::Kept(policy) => policy,
        }
    }
}

/// A device that follows another policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) policy: PolicyName,
    pub(crate) device: DeviceId,
    pub(crate) follows: PolicyName,
}

/// A rule that does not say whether it is about a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unclear {
    pub(crate) rule: usize,
    pub(crate) device: DeviceId,
    pub(crate) error: String,
}

/// What a policy would do with a device if it were alone.
struct Wish {
    /// The rules that are about it, in order.
    rules: Vec<usize>,
    /// After these comes one that does not say.
    unclear: bool,
}

/// What one policy wants of a node, and has got so far.
struct Claimant<'a> {
    policy: &'a Policy,
    wishes: BTreeMap<&'a DeviceId, Wish>,
    /// How many devices each rule has.
    has: Vec<usize>,
}

/// Who has what, of the policies that select a node, the oldest first.
///
/// Who has a device keeps it for as long as one of its rules is about the device; else it is the older one's. A device
/// follows the first rule of its policy that has room for it, and those that have a rule's layout already come before
/// others there, so that nothing changes without a reason.
pub(crate) fn assign(policies: &[&Policy], layout: &Layout, functions: &Functions) -> Assignment {
    let mut assignment = Assignment::default();
    let mut claimants = wishes(policies, layout, functions, &mut assignment);
    // What is still somebody's is nobody else's, unless its policy has no room for it: that is the second round.
    let wanted_by_its_policy: BTreeMap<&DeviceId, &PolicyName> = claimants
        .iter()
        .flat_map(|claimant| claimant.wishes.keys().map(|id| (*id, &claimant.policy.name)))
        .filter(|(id, policy)| layout.desired.get(*id).is_some_and(|had| had.policy == policy.as_ref()))
        .collect();
    for round in 0..2 {
        for claimant in &mut claimants {
            let may_have = |id: &DeviceId| {
                round == 1 || wanted_by_its_policy.get(id).is_none_or(|had| **had == claimant.policy.name)
            };
            choose(claimant, layout, &may_have, &mut assignment.targets);
        }
    }
    for claimant in &claimants {
        assignment.conflicts.extend(conflicts(claimant, &assignment.targets));
    }
    assignment
}

fn wishes<'a>(
    policies: &[&'a Policy],
    layout: &'a Layout,
    functions: &Functions,
    assignment: &mut Assignment,
) -> Vec<Claimant<'a>> {
    let mut claimants: Vec<_> = policies
        .iter()
        .map(|policy| Claimant { policy, wishes: BTreeMap::new(), has: vec![0; policy.rules.len()] })
        .collect();
    for (id, facts) in &layout.facts {
        let mut seen = None;
        for claimant in &mut claimants {
            let mut wish = Wish { rules: Vec::new(), unclear: false };
            for (index, rule) in claimant.policy.rules.iter().enumerate() {
                match rule.verdict(functions, id, facts, &mut seen) {
                    Verdict::Differs => {}
                    Verdict::Matches => {
                        wish.rules.push(index);
                        if rule.at_most == usize::MAX {
                            break;
                        }
                    }
                    Verdict::Unclear(error) => {
                        wish.unclear = true;
                        let unclear = || Unclear { rule: index, device: id.clone(), error };
                        assignment.unclear.entry(claimant.policy.name.clone()).or_insert_with(unclear);
                        break;
                    }
                }
            }
            if wish.unclear || !wish.rules.is_empty() {
                claimant.wishes.insert(id, wish);
            }
        }
    }
    claimants
}

/// Gives a policy what its rules have room for.
fn choose(
    claimant: &mut Claimant<'_>,
    layout: &Layout,
    may_have: &dyn Fn(&DeviceId) -> bool,
    targets: &mut BTreeMap<DeviceId, Target>,
) {
    let name = &claimant.policy.name;
    for (index, rule) in claimant.policy.rules.iter().enumerate() {
        let Ok(wanted) = &rule.layout else { continue };
        let free = |id: &DeviceId| !targets.contains_key(id) && may_have(id);
        let matching = claimant.wishes.iter().filter(|(_, wish)| wish.rules.contains(&index));
        let mut candidates: Vec<_> = matching.map(|(id, _)| *id).filter(|id| free(id)).collect();
        let follows = |id: &DeviceId| {
            layout.desired.get(id).is_some_and(|had| had.policy == name.as_ref() && had.layout.as_ref() == Some(wanted))
        };
        let is = |id: &DeviceId| layout.reported.get(id).is_some_and(|now| now.layout.as_ref() == Some(wanted));
        candidates.sort_by_key(|id| (!follows(id), !is(id), *id));
        candidates.truncate(rule.at_most.saturating_sub(claimant.has[index]));
        claimant.has[index] += candidates.len();
        targets.extend(candidates.into_iter().map(|id| (id.clone(), Target::Rule(name.clone(), index))));
    }
    for (id, _) in claimant.wishes.iter().filter(|(_, wish)| wish.unclear) {
        let follows = layout.desired.get(*id).is_some_and(|had| had.policy == name.as_ref());
        if follows && !targets.contains_key(*id) {
            targets.insert((*id).clone(), Target::Kept(name.clone()));
        }
    }
}

/// What a policy has room for and another one has.
fn conflicts(claimant: &Claimant<'_>, targets: &BTreeMap<DeviceId, Target>) -> Vec<Conflict> {
    let room: BTreeSet<_> = claimant
        .policy
        .rules
        .iter()
        .enumerate()
        .filter(|(index, rule)| claimant.has[*index] < rule.at_most)
        .map(|(index, _)| index)
        .collect();
    let conflict = |(id, wish): (&&DeviceId, &Wish)| {
        let follows = targets.get(*id)?.policy();
        let wanted = wish.rules.iter().any(|rule| room.contains(rule)) && *follows != claimant.policy.name;
        let (policy, device) = (claimant.policy.name.clone(), (*id).clone());
        wanted.then(|| Conflict { policy, device, follows: follows.clone() })
    };
    claimant.wishes.iter().filter_map(conflict).collect()
}

#[cfg(test)]
mod tests {
    use tessera_policy::{DesiredDevice, Layout as Words, PartitionPolicy, ReportedDevice, Rule};

    use super::*;
    use crate::facts::Texts;
    use crate::testing::{desired, gpus, layout, policy, rule};

    fn following(name: &str, rules: Vec<Rule>) -> PartitionPolicy {
        let mut policy = policy(name);
        policy.spec.rules = rules;
        policy
    }

    /// Which rule each device follows, and who has to do without what: `a0 a1 -`, `b:gpu-0>a`.
    fn told(policies: &[PartitionPolicy], had: Vec<DesiredDevice>, reported: Vec<ReportedDevice>) -> (String, String) {
        let names: Vec<_> = reported.iter().map(|device| device.id.clone()).collect();
        let policies: Vec<_> = policies.iter().cloned().filter_map(Policy::new).collect();
        let policies: Vec<_> = policies.iter().collect();
        let (_, layout) = Layout::new(layout("n", had, reported), &mut Texts::default()).unwrap();
        let assignment = assign(&policies, &layout, &Functions::new());
        let target = |id: &DeviceId| match assignment.targets.get(id) {
            None => "-".to_owned(),
            Some(Target::Rule(policy, rule)) => format!("{policy}{rule}"),
            Some(Target::Kept(policy)) => format!("{policy}!"),
        };
        let conflict =
            |conflict: &Conflict| format!("{}:{}>{}", conflict.policy, conflict.device.name, conflict.follows);
        let joined = |texts: Vec<String>| texts.join(" ");
        (joined(names.iter().map(target).collect()), joined(assignment.conflicts.iter().map(conflict).collect()))
    }

    fn one_is_cut() -> Vec<Rule> {
        vec![
            rule(Words::partitions([("1g.10gb", 7)]), Some(1)),
            rule(Words::partitions([("3g.40gb", 1), ("4g.40gb", 1)]), Some(1)),
            rule(Words::dynamic(), None),
        ]
    }

    #[test]
    fn a_device_follows_the_first_rule_that_has_room_for_it() {
        for (had, expected) in [
            (vec![], "a0 a1 a2 a2"),
            // What has a rule's layout keeps it.
            (vec![desired("gpu-3", "a", Some(one_is_cut()[0].layout.clone()))], "a1 a2 a2 a0"),
            (vec![desired("gpu-3", "a", Some(Words::dynamic()))], "a0 a1 a2 a2"),
            // What a policy that is gone left behind is taken as it is.
            (vec![desired("gpu-2", "gone", Some(Words::dynamic()))], "a0 a1 a2 a2"),
        ] {
            assert_eq!(told(&[following("a", one_is_cut())], had, gpus(4)), (expected.to_owned(), String::new()));
        }
        let mut reported = gpus(4);
        reported[2].layout = Some(one_is_cut()[0].layout.clone());
        assert_eq!(told(&[following("a", one_is_cut())], vec![], reported).0, "a1 a2 a0 a2");
        assert_eq!(told(&[following("a", vec![rule(Words::whole(), Some(2))])], vec![], gpus(4)).0, "a0 a0 - -");
    }

    #[test]
    fn of_two_policies_the_one_that_has_a_device_keeps_it_else_it_is_the_older_ones() {
        let (whole, shared) = (vec![rule(Words::whole(), None)], vec![rule(Words::shares(2), None)]);
        let both = [following("a", whole), following("b", shared.clone())];
        let b_has = |name: &str| desired(name, "b", Some(Words::shares(2)));
        for (policies, had, targets, conflicts) in [
            (&both[..], vec![], "a0 a0", "b:gpu-0>a b:gpu-1>a"),
            (&both, vec![b_has("gpu-1")], "a0 b0", "a:gpu-1>b b:gpu-0>a"),
            // What is being given back may be had at once.
            (&both[..1], vec![b_has("gpu-1")], "a0 a0", ""),
            // Who wants one takes one that is free.
            (
                &[
                    following("a", vec![rule(Words::whole(), Some(1))]),
                    following("b", vec![rule(Words::shares(2), Some(1))]),
                ],
                vec![],
                "a0 b0",
                "",
            ),
            (
                &[following("a", vec![rule(Words::whole(), Some(1))]), following("b", shared)],
                vec![],
                "a0 b0",
                "b:gpu-0>a",
            ),
            // A policy that has more than it has room for now gives up the rest, and the other may have it.
            (
                &[
                    following("a", vec![rule(Words::whole(), Some(1))]),
                    following("b", vec![rule(Words::shares(2), Some(1))]),
                ],
                vec![b_has("gpu-0"), b_has("gpu-1")],
                "b0 a0",
                "",
            ),
        ] {
            assert_eq!(told(policies, had, gpus(2)), (targets.to_owned(), conflicts.to_owned()), "{targets}");
        }
    }

    #[test]
    fn where_a_rule_does_not_say_nothing_changes() {
        let mut unclear = rule(Words::shares(2), None);
        unclear.devices.cel = Some("device.attributes['gpu.nvidia.com'].colour == 'red'".to_owned());
        let policy = following("a", vec![rule(Words::whole(), Some(1)), unclear, rule(Words::dynamic(), None)]);
        let had = vec![desired("gpu-1", "a", Some(Words::shares(2)))];
        assert_eq!(told(&[policy], had, gpus(3)), ("a0 a! -".to_owned(), String::new()));
    }
}
