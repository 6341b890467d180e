use std::collections::BTreeSet;

use k8s_openapi::api::resource::v1::{DeviceTaint, ResourceSlice};
use tessera_vocabulary::{taint_value, taints};

use super::member::{Member, Part};
use super::{DomainId, device, slices};
use crate::PolicyName;

/// So many nodes are named in a message.
const NAMES: usize = 3;

/// What becomes of a domain.
#[derive(Debug)]
pub(crate) struct Outlook {
    /// Some device of it is offered with it: then it has a device of its own, if one that nobody may take.
    device: Option<k8s_openapi::api::resource::v1::Device>,
    /// Somebody has a device of it.
    used: bool,
    pub(super) obstacle: Option<Obstacle>,
    /// Those who have its devices be offered with it.
    pub(super) policies: BTreeSet<PolicyName>,
}

/// What keeps a domain from being offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Obstacle {
    pub(super) reason: Reason,
    /// For people: which node, and what to do.
    pub(super) message: String,
}

/// Why a domain is not offered. What somebody must do something about comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    SeveralDomains,
    NodesDoNotFollow,
    DeviceFailed,
    DeviceMissing,
    AgentMissing,
    NodesMissing,
    Withdrawing,
    RollingOut,
}

impl Reason {
    /// As conditions and events name it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::SeveralDomains => "SeveralDomains",
            Self::NodesDoNotFollow => "NodesDoNotFollow",
            Self::DeviceFailed => "DeviceFailed",
            Self::DeviceMissing => "DeviceMissing",
            Self::AgentMissing => "AgentMissing",
            Self::NodesMissing => "NodesMissing",
            Self::Withdrawing => "Withdrawing",
            Self::RollingOut => "RollingOut",
        }
    }
}

impl Outlook {
    /// Of all nodes that lie in a domain.
    pub(super) fn new(domain: &DomainId, members: &[Member<'_>]) -> Self {
        let parts = || members.iter().flat_map(|member| &member.parts);
        let ready = members.iter().filter(|member| member.is_ready()).count();
        let by_hardware = parts().filter_map(|part| part.reported?.domain.as_ref()?.nodes).max();
        let by_hardware = by_hardware.and_then(|nodes| usize::try_from(nodes).ok()).unwrap_or(0);
        let expected = by_hardware.max(members.len());
        let leaving = parts().find(|part| part.leaves());
        // While a domain is given back, those that were given back already are not in its way.
        let matters = |(reason, _): &(Reason, String)| leaving.is_none() || *reason != Reason::NodesDoNotFollow;
        let problems = members.iter().flat_map(Member::problems).filter(matters);
        let missing = (members.len() < expected).then(|| (Reason::NodesMissing, missing(members, expected)));
        let first = problems.chain(missing).min_by_key(|(reason, _)| *reason);
        let obstacle = first.map(|(reason, message)| Obstacle { reason, message });
        let incomplete = (ready < expected).then(|| taint(taints::INCOMPLETE, &format!("{ready}-of-{expected}")));
        // Whoever has one device of it has all of them.
        let evicts = parts().any(|part| part.leaves() && part.evicts());
        let effect = if evicts { "NoExecute" } else { "NoSchedule" };
        let leaving = leaving.map(|part| {
            let taint = taint(taints::REPARTITIONING, part.told_by().unwrap_or_default());
            DeviceTaint { effect: effect.to_owned(), ..taint }
        });
        let taints: Vec<_> = incomplete.into_iter().chain(leaving).collect();
        Self {
            device: parts().any(Part::is_offered).then(|| device::device(domain, members, taints)),
            used: parts().any(|part| part.reported.is_some_and(|reported| reported.users > 0)),
            obstacle,
            policies: parts().filter_map(Part::policy).collect(),
        }
    }

    /// The slice of the domain, if it has one. Where the server drops taints, a device that nobody may take is withheld,
    /// unless somebody has it: then it must not vanish, and nobody else can be given it.
    pub(super) fn slice(&self, domain: &DomainId, drops_taints: bool) -> Option<ResourceSlice> {
        let mut device = self.device.clone()?;
        if drops_taints && device.taints.take().is_some() && !self.used {
            return None;
        }
        Some(slices::slice(domain, device))
    }
}

fn missing(members: &[Member<'_>], expected: usize) -> String {
    let names: Vec<_> = members.iter().take(NAMES).map(|member| member.node.as_ref()).collect();
    let more = members.len().saturating_sub(NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let names = names.join(", ");
    format!("{} of {expected} nodes are there ({names}{more}): see that the others run tessera-agent", members.len())
}

/// New pods keep off the domain; pods that have it go on.
fn taint(key: &str, value: &str) -> DeviceTaint {
    DeviceTaint { key: key.to_owned(), value: taint_value(value), effect: "NoSchedule".to_owned(), time_added: None }
}
