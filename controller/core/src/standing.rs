//! What would have to be changed on a node, and how far it is with what was.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use tessera_policy::{DesiredDevice, DeviceId, Failure, ReportedDevice};

use crate::assignment::{Assignment, Conflict, Target, Unclear, assign};
use crate::expression::Functions;
use crate::node::{Agent, Layout, Node};
use crate::policy::Policy;
use crate::progress::Progress;
use crate::{NodeName, PolicyName};

/// What is to be known of one node. It follows from the node, its NodeLayout and the policies' specs alone.
#[derive(Debug, Default)]
pub(crate) struct Assessment {
    pub(crate) standings: BTreeMap<PolicyName, Standing>,
    pub(crate) conflicts: Vec<Conflict>,
    pub(crate) unclear: BTreeMap<PolicyName, Unclear>,
    /// What is to be done with each device about which something is.
    pub(crate) steps: BTreeMap<DeviceId, Step>,
    /// Some policy selects the node.
    pub(crate) selected: bool,
    /// `None` if the node is ready.
    pub(crate) not_ready_since: Option<Timestamp>,
}

/// How far a node is with one policy.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// How many of its devices follow the policy, or still have its layout.
    pub(crate) devices: u32,
    /// The first device that is drained or changed, and what the agent says of it.
    pub(crate) in_flight: Option<(DeviceId, String)>,
    /// What failed and is not to be tried again yet.
    pub(crate) failures: Vec<Failure>,
    /// How many devices wait for the node's turn.
    pub(crate) pending: u32,
    /// How many of these somebody uses.
    pub(crate) used: u32,
    /// Its agent was never heard of: nobody knows what devices there are.
    pub(crate) silent: bool,
}

/// What is to be done with a device in the spec of its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing of the device itself changes by it, so it is done at once. Nothing: the device leaves the spec.
    Free(Option<DesiredDevice>),
    /// The device is drained and changed: it is done when its node has its turn.
    Paced(DesiredDevice),
}

impl Assessment {
    pub(crate) fn new(
        name: &NodeName,
        node: &Node,
        layout: Option<&Layout>,
        policies: &BTreeMap<PolicyName, Policy>,
        functions: &Functions,
    ) -> Self {
        let mut selecting: Vec<_> = policies.values().filter(|policy| policy.selects(node)).collect();
        selecting.sort_by_key(|policy| policy.age());
        let not_ready_since = node.not_ready_since;
        let mut assessment = Self { selected: !selecting.is_empty(), not_ready_since, ..Self::default() };
        let silent = layout.is_none_or(|layout| layout.agent == Agent::Silent);
        if silent {
            for policy in &selecting {
                assessment.standings.entry(policy.name.clone()).or_default().silent = true;
            }
        }
        let Some(layout) = layout else { return assessment };
        let Assignment { targets, conflicts, unclear } = assign(&selecting, layout, functions);
        (assessment.conflicts, assessment.unclear) = (conflicts, unclear);
        let devices: BTreeSet<_> = layout.desired.keys().chain(targets.keys()).collect();
        for id in devices {
            let device = Device {
                desired: layout.desired.get(id),
                reported: layout.reported.get(id),
                agent: layout.agent,
                target: targets.get(id),
            };
            assessment.take(name, id, &device, &Selection { policies, node });
        }
        assessment
    }

    fn take(&mut self, node: &NodeName, id: &DeviceId, device: &Device<'_>, selection: &Selection<'_>) {
        let step = device.step(id, selection);
        let message = || device.reported.map(|reported| reported.message.clone()).unwrap_or_default();
        if let Some(desired) = device.desired {
            let standing = self.standings.entry(desired.policy.as_str().into()).or_default();
            match device.progress() {
                Some(Progress::InFlight) => {
                    standing.in_flight.get_or_insert_with(|| {
                        let unheard = device.agent != Agent::Informed;
                        let said = if unheard { "its agent has not answered yet".to_owned() } else { message() };
                        (id.clone(), said)
                    });
                }
                Some(Progress::Failed) if step.is_none() => {
                    let (node, device) = (node.to_string(), id.clone());
                    standing.failures.push(Failure { node, device, message: message() });
                }
                _ => {}
            }
        }
        let owner = device.target.map(|target| target.policy().clone());
        let owner = owner.or_else(|| device.desired.map(|desired| desired.policy.as_str().into()));
        if let Some(owner) = owner {
            self.standings.entry(owner).or_default().devices += 1;
        }
        match step {
            None => {}
            Some(step) => {
                if let Step::Paced(to) = &step {
                    let standing = self.standings.entry(to.policy.as_str().into()).or_default();
                    standing.pending += 1;
                    standing.used += u32::from(device.reported.is_some_and(|reported| reported.users > 0));
                }
                self.steps.insert(id.clone(), step);
            }
        }
    }

    /// The spec of the node once all is done that may be: what is free, and what is these policies'.
    pub(crate) fn next(&self, layout: &Layout, may_begin: &dyn Fn(&str) -> bool) -> Option<Vec<DesiredDevice>> {
        let mut devices = layout.desired.clone();
        for (id, step) in &self.steps {
            match step {
                Step::Free(None) => drop(devices.remove(id)),
                Step::Free(Some(to)) => drop(devices.insert(id.clone(), to.clone())),
                Step::Paced(to) if may_begin(&to.policy) => drop(devices.insert(id.clone(), to.clone())),
                Step::Paced(_) => {}
            }
        }
        (devices != layout.desired).then(|| devices.into_values().collect())
    }
}

/// The policies, and which node it is about.
struct Selection<'a> {
    policies: &'a BTreeMap<PolicyName, Policy>,
    node: &'a Node,
}

/// What is known of a device.
struct Device<'a> {
    desired: Option<&'a DesiredDevice>,
    reported: Option<&'a ReportedDevice>,
    agent: Agent,
    target: Option<&'a Target>,
}

impl Device<'_> {
    fn progress(&self) -> Option<Progress> {
        self.desired.map(|desired| Progress::of(desired, self.reported, self.agent))
    }

    /// What is to be done with it, if anything is.
    fn step(&self, id: &DeviceId, selection: &Selection<'_>) -> Option<Step> {
        match (self.target, self.desired) {
            (Some(Target::Kept(_)), _) | (None, None) => None,
            (Some(Target::Rule(policy, rule)), _) => {
                let policy = selection.policies.get(policy)?;
                let layout = policy.rules.get(*rule)?.layout.as_ref().ok()?;
                let wanted = DesiredDevice {
                    id: id.clone(),
                    policy: policy.name.to_string(),
                    layout: Some(layout.clone()),
                    drain: policy.rollout.drain.clone(),
                    attempt: policy.rollout.attempt,
                };
                self.towards(wanted)
            }
            (None, Some(desired)) => self.back(desired, selection),
        }
    }

    /// To a layout that a policy wants it to have.
    fn towards(&self, wanted: DesiredDevice) -> Option<Step> {
        let Some(desired) = self.desired else {
            let has_it = self.is(wanted.layout.as_ref()) && self.agent == Agent::Informed;
            return Some(if has_it { Step::Free(Some(wanted)) } else { Step::Paced(wanted) });
        };
        if desired.layout != wanted.layout {
            return self.change(wanted);
        }
        let progress = self.progress();
        if progress == Some(Progress::Failed) && desired.attempt != wanted.attempt {
            return Some(Step::Paced(wanted));
        }
        // What is at it stays at it: another attempt is for what failed.
        let wanted = DesiredDevice { attempt: desired.attempt, ..wanted };
        if wanted == *desired {
            None
        } else if desired.policy == wanted.policy || progress == Some(Progress::Settled) {
            Some(Step::Free(Some(wanted)))
        } else {
            // It is to count as the other policy's node from now on.
            Some(Step::Paced(wanted))
        }
    }

    /// To what the agent was told at its start, and then out of the spec.
    fn back(&self, desired: &DesiredDevice, selection: &Selection<'_>) -> Option<Step> {
        let policy = selection.policies.get(desired.policy.as_str());
        let progress = self.progress();
        if progress == Some(Progress::Gone) {
            // It may come back, and its policy may still be about it then; nobody can ask its rules before.
            let is_kept = policy.is_some_and(|policy| policy.is_unreadable() || policy.selects(selection.node));
            return (!is_kept).then_some(Step::Free(None));
        }
        if policy.is_some_and(Policy::is_unreadable) || self.reported.is_none() {
            return None;
        }
        let rollout = policy.map(|policy| &policy.rollout);
        let attempt = rollout.map_or(desired.attempt, |rollout| rollout.attempt);
        let drain = rollout.map_or_else(|| desired.drain.clone(), |rollout| rollout.drain.clone());
        let wanted = DesiredDevice { layout: None, drain, attempt, ..desired.clone() };
        match progress {
            _ if desired.layout.is_some() => self.change(wanted),
            Some(Progress::Settled) => Some(Step::Free(None)),
            Some(Progress::Failed) if desired.attempt != attempt => Some(Step::Paced(wanted)),
            _ => {
                let wanted = DesiredDevice { attempt: desired.attempt, ..wanted };
                (wanted != *desired).then_some(Step::Free(Some(wanted)))
            }
        }
    }

    /// To another layout. Not to what it is according to an agent that does not know what it was told last: that may have
    /// begun to change it, and it would be taken for settled.
    fn change(&self, wanted: DesiredDevice) -> Option<Step> {
        let may_be_changing = self.agent != Agent::Informed && self.is(wanted.layout.as_ref());
        (!may_be_changing).then_some(Step::Paced(wanted))
    }

    fn is(&self, layout: Option<&tessera_policy::Layout>) -> bool {
        self.reported.is_some_and(|reported| {
            reported.layout.as_ref() == layout && reported.state == tessera_policy::DeviceState::Ready
        })
    }
}

#[cfg(test)]
mod tests {
    use tessera_policy::{DeviceState, Layout as Words, PartitionPolicy};

    use super::*;
    use crate::facts::Texts;
    use crate::testing::{desired, gpu, layout, policy};

    fn assess(policies: Vec<PartitionPolicy>, layout: &Layout) -> Assessment {
        let policies =
            policies.into_iter().filter_map(Policy::new).map(|policy| (policy.name.clone(), policy)).collect();
        let node = Node { uid: "uid-of-n".to_owned(), labels: BTreeMap::new(), not_ready_since: None };
        Assessment::new(&"n".into(), &node, Some(layout), &policies, &Functions::new())
    }

    /// What is to be done with one device: `free p whole`, `paced p back`, `leaves`, `-`.
    fn step(
        policies: Vec<PartitionPolicy>,
        had: Option<DesiredDevice>,
        now: Option<ReportedDevice>,
        agent: Agent,
    ) -> String {
        let (_, mut layout) =
            Layout::new(layout("n", had.into_iter().collect(), now.into_iter().collect()), &mut Texts::default())
                .unwrap();
        layout.agent = agent;
        let assessment = assess(policies, &layout);
        let said = |pace: &str, to: &DesiredDevice| {
            let layout = to.layout.as_ref().map_or_else(|| "back".to_owned(), ToString::to_string);
            format!("{pace} {} {layout} {}", to.policy, to.attempt)
        };
        match assessment.steps.values().next() {
            None => "-".to_owned(),
            Some(Step::Free(None)) => "leaves".to_owned(),
            Some(Step::Free(Some(to))) => said("free", to),
            Some(Step::Paced(to)) => said("paced", to),
        }
    }

    fn now(layout: Option<Words>, state: DeviceState) -> Option<ReportedDevice> {
        Some(ReportedDevice { layout, state, ..gpu("gpu-0") })
    }

    fn withdrawn() -> PartitionPolicy {
        let mut policy = policy("p");
        policy.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH));
        policy
    }

    fn again() -> PartitionPolicy {
        let mut policy = policy("p");
        policy.spec.rollout.attempt = 1;
        policy
    }

    #[test]
    fn a_device_goes_to_what_its_policy_wants_and_back() {
        use Agent::{Behind, Informed};
        use DeviceState::{Changing, Draining, Failed, Ready};
        let (whole, shares) = (Some(Words::whole()), Some(Words::shares(2)));
        let told = |layout: &Option<Words>| Some(desired("gpu-0", "p", layout.clone()));
        let mut impatient = policy("p");
        impatient.spec.rollout.drain.deadline_seconds = 5;
        for (policies, had, now, agent, expected) in [
            (vec![policy("p")], None, now(None, Ready), Informed, "paced p whole 0"),
            (vec![policy("p")], None, now(whole.clone(), Ready), Informed, "free p whole 0"),
            (vec![policy("p")], told(&whole), now(whole.clone(), Ready), Informed, "-"),
            (vec![policy("p")], told(&whole), now(None, Draining), Informed, "-"),
            (vec![policy("p")], told(&shares), now(None, Draining), Informed, "paced p whole 0"),
            (vec![policy("p")], told(&shares), now(shares.clone(), Ready), Informed, "paced p whole 0"),
            // The agent may be making shares of it, and would be taken to have it whole.
            (vec![policy("p")], told(&shares), now(whole.clone(), Ready), Behind, "-"),
            (vec![policy("p")], told(&shares), now(None, Ready), Behind, "paced p whole 0"),
            // A failure is tried again when that is said.
            (vec![policy("p")], told(&whole), now(None, Failed), Informed, "-"),
            (vec![again()], told(&whole), now(None, Failed), Informed, "paced p whole 1"),
            (vec![again()], told(&whole), now(None, Changing), Informed, "-"),
            (vec![again()], told(&whole), now(whole.clone(), Ready), Informed, "-"),
            (vec![impatient], told(&whole), now(None, Draining), Informed, "free p whole 0"),
            // Another policy gets it.
            (vec![policy("q")], told(&whole), now(whole.clone(), Ready), Informed, "free q whole 0"),
            (vec![policy("q")], told(&whole), now(None, Draining), Informed, "paced q whole 0"),
            (vec![policy("q"), withdrawn()], told(&shares), now(shares.clone(), Ready), Informed, "paced q whole 0"),
            // Nobody wants it any more.
            (vec![withdrawn()], told(&whole), now(whole.clone(), Ready), Informed, "paced p back 0"),
            (vec![], told(&whole), now(whole.clone(), Ready), Informed, "paced p back 0"),
            (vec![withdrawn()], told(&whole), now(None, Failed), Informed, "paced p back 0"),
            (vec![withdrawn()], told(&whole), now(None, Ready), Behind, "-"),
            (vec![withdrawn()], told(&None), now(whole.clone(), Changing), Informed, "-"),
            (vec![withdrawn()], told(&None), now(whole.clone(), Failed), Informed, "-"),
            (vec![withdrawn()], told(&None), now(None, Ready), Informed, "leaves"),
            // What is not there cannot be changed, and keeps what it was told for as long as its policy is there.
            (vec![policy("p")], told(&whole), None, Informed, "-"),
            (vec![withdrawn()], told(&whole), None, Informed, "leaves"),
            (vec![withdrawn()], told(&whole), None, Behind, "-"),
        ] {
            assert_eq!(step(policies, had.clone(), now.clone(), agent), expected, "{had:?} {now:?} {agent:?}");
        }
    }

    #[test]
    fn a_node_whose_agent_was_never_heard_of_waits() {
        let (_, mut layout) = Layout::new(layout("n", vec![], vec![]), &mut Texts::default()).unwrap();
        layout.agent = Agent::Silent;
        let assessment = assess(vec![policy("p")], &layout);
        let standing = &assessment.standings["p"];
        assert!(standing.silent && standing.in_flight.is_none() && standing.devices == 0 && assessment.selected);
    }
}
