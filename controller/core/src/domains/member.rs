use std::collections::BTreeSet;

use tessera_policy::{DesiredDevice, DeviceId, DeviceState, Layout as Words, ReportedDevice};
use tessera_vocabulary::DriverName;

use super::outlook::Reason;
use super::{DomainId, Nodes};
use crate::facts::Facts;
use crate::node::Layout;
use crate::standing::Step;
use crate::{NodeName, PolicyName};

/// The domains that a node's devices lie in.
pub(super) fn domains(layout: &Layout, drivers: &BTreeSet<DriverName>) -> BTreeSet<DomainId> {
    let of = |device: &ReportedDevice| {
        let driver = drivers.iter().find(|driver| driver.as_str() == device.id.driver)?;
        let name = device.domain.as_ref()?.name.as_str();
        // What is called nothing is nothing that could be told apart.
        (!name.is_empty()).then(|| DomainId { driver: driver.clone(), name: name.into() })
    };
    layout.reported.values().filter_map(of).collect()
}

/// How a node is with a domain that it lies in.
pub(super) struct Member<'a> {
    pub(super) node: &'a NodeName,
    pub(super) parts: Vec<Part<'a>>,
    /// Its devices lie in other domains too, and its label can name one only.
    several: bool,
    without_agent: bool,
}

/// A device of a domain.
pub(super) struct Part<'a> {
    pub(super) id: &'a DeviceId,
    pub(super) reported: Option<&'a ReportedDevice>,
    /// What it says of itself.
    pub(super) facts: Option<&'a Facts>,
    desired: Option<&'a DesiredDevice>,
    /// What is to be done with it next.
    step: Option<&'a Step>,
}

/// Whether a layout is that of a domain.
pub(super) fn is_domain(layout: Option<&Words>) -> bool {
    layout.is_some_and(|layout| layout.domain.is_some())
}

impl<'a> Member<'a> {
    pub(super) fn new(node: &'a NodeName, domain: &DomainId, known: Nodes<'a>) -> Option<Self> {
        let layout = known.layouts.get(node)?;
        let steps = known.assessments.get(node).map(|assessment| &assessment.steps);
        let ids: BTreeSet<_> = layout.reported.keys().chain(layout.desired.keys()).collect();
        let of_driver = ids.into_iter().filter(|id| id.driver == domain.driver.as_str());
        let parts = of_driver.filter_map(|id| {
            let (reported, desired) = (layout.reported.get(id), layout.desired.get(id));
            let facts = layout.facts.get(id).filter(|facts| !facts.attributes.is_empty());
            let lies_in = reported.and_then(|reported| reported.domain.as_ref()).map(|domain| domain.name.as_str());
            // Of a device that does not answer, or is gone, nobody can say where it lies: with the others of its node, if it
            // is what they are.
            let is_of = match lies_in {
                Some(name) => name == &*domain.name,
                None => {
                    is_domain(desired.and_then(|desired| desired.layout.as_ref()))
                        || is_domain(reported.and_then(|reported| reported.layout.as_ref()))
                }
            };
            let step = steps.and_then(|steps| steps.get(id));
            is_of.then_some(Part { id, reported, facts, desired, step })
        });
        let others = |device: &&ReportedDevice| {
            device.id.driver == domain.driver.as_str()
                && device.domain.as_ref().is_some_and(|other| other.name != *domain.name)
        };
        Some(Self {
            node,
            parts: parts.collect(),
            several: layout.reported.values().any(|device| others(&device)),
            without_agent: known.agents.lacks(node),
        })
    }

    /// Whether its devices can be handed out as part of the domain.
    pub(super) fn is_ready(&self) -> bool {
        !self.several && !self.without_agent && self.parts.iter().all(Part::is_ready)
    }

    /// What is wrong with it, if anything is, and what somebody can do.
    pub(super) fn problems(&self) -> impl Iterator<Item = (Reason, String)> {
        let node = self.node;
        let of_all = if self.several {
            let text = format!("the devices of node {node} lie in several domains, of which its label can name one");
            Some((Reason::SeveralDomains, text))
        } else if self.without_agent {
            let text = format!("node {node} has no ResourceSlice: see whether tessera-agent and the kubelet run there");
            Some((Reason::AgentMissing, text))
        } else {
            None
        };
        of_all.into_iter().chain(self.parts.iter().filter_map(|part| part.problem(node)))
    }
}

impl Part<'_> {
    /// Whether it is offered with the domain now.
    pub(super) fn is_offered(&self) -> bool {
        is_domain(self.reported.and_then(|reported| reported.layout.as_ref()))
    }

    fn is_ready(&self) -> bool {
        let is_settled = self.reported.is_some_and(|reported| reported.state == DeviceState::Ready);
        self.is_offered() && is_settled && self.facts.is_some()
    }

    /// Whether it is offered with the domain and is to be something else by now.
    pub(super) fn leaves(&self) -> bool {
        self.is_offered() && !is_domain(self.desired.and_then(|desired| desired.layout.as_ref()))
    }

    /// Whether its pods were waited for long enough, and the policy has them be evicted then.
    pub(super) fn evicts(&self) -> bool {
        self.reported.is_some_and(|reported| reported.evicting)
    }

    /// The policy that the agent was told.
    pub(super) fn told_by(&self) -> Option<&str> {
        self.desired.map(|desired| desired.policy.as_str())
    }

    /// The policy that has it be offered with the domain, or did and gives it back, or will as soon as it is its node's turn.
    pub(super) fn policy(&self) -> Option<PolicyName> {
        let next = match self.step {
            Some(Step::Paced(to) | Step::Free(Some(to))) => Some(to),
            _ => None,
        };
        let did = |device: &&DesiredDevice| self.is_offered() && device.layout.is_none();
        let wants = |device: &&DesiredDevice| is_domain(device.layout.as_ref()) || did(device);
        let wants = [self.desired, next].into_iter().flatten().find(wants)?;
        Some(wants.policy.as_str().into())
    }

    fn problem(&self, node: &NodeName) -> Option<(Reason, String)> {
        let name = &self.id.name;
        let Some(reported) = self.reported else {
            return Some((Reason::DeviceMissing, format!("{name} of node {node} is not there")));
        };
        let said = if reported.message.is_empty() { String::new() } else { format!(": {}", reported.message) };
        if self.leaves() {
            let policy = self.told_by().map(|policy| format!(" (policy {policy})")).unwrap_or_default();
            let text = format!("{name} of node {node} is to be something else{policy}{said}");
            return Some((Reason::Withdrawing, text));
        }
        if self.is_ready() {
            return None;
        }
        let is_told = is_domain(self.desired.and_then(|desired| desired.layout.as_ref()));
        if self.is_offered() && reported.state == DeviceState::Ready {
            return Some((Reason::DeviceMissing, format!("{name} of node {node} does not answer{said}")));
        }
        if self.is_offered() && reported.state == DeviceState::Failed {
            return Some((Reason::DeviceFailed, format!("{name} of node {node} cannot be used{said}")));
        }
        if is_told && reported.state == DeviceState::Failed {
            return Some((Reason::DeviceFailed, format!("{name} of node {node} could not be changed{said}")));
        }
        if is_told {
            return Some((Reason::RollingOut, format!("{name} of node {node} is being changed{said}")));
        }
        if self.policy().is_some() {
            return Some((Reason::RollingOut, format!("node {node} has not had its turn yet")));
        }
        let is =
            reported.layout.as_ref().map_or_else(|| "offered by itself".to_owned(), |layout| format!("\"{layout}\""));
        let follows = self.told_by().map_or_else(|| "no policy".to_owned(), |policy| format!("policy {policy}"));
        let advice = "have a policy with the layout domain match all devices of all nodes of the domain";
        let text = format!("{name} of node {node} is {is} and follows {follows}: {advice}");
        Some((Reason::NodesDoNotFollow, text))
    }
}
