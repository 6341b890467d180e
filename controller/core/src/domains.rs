//! Fabric domains that span nodes, offered as one device each.
//!
//! Which nodes a domain has follows from their NodeLayouts, and a domain is looked at anew when something of one of its
//! nodes has changed: what that costs does not grow with the number of all nodes. Of a domain and its nodes follow the device
//! that is offered (`device.rs`), whether it may be taken now, and if not, why (`outlook.rs`); what has to be written
//! follows from that and from what is stored (`slices.rs`, `labels.rs`).
//!
//! **No domain is offered while one of its nodes does not follow**: its device is tainted then, and where the server drops
//! taints, it is withheld.

mod condition;
mod device;
mod labels;
mod member;
mod outlook;
#[cfg(test)]
mod property;
mod slices;
#[cfg(test)]
mod tests;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::resource::v1::ResourceSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tessera_vocabulary::{DeviceName, DriverName};

pub(crate) use condition::{DOMAINS_OFFERED, is_alarm, is_wanted_by, told};
pub use write::DomainWrite;

use crate::agents::Agents;
use crate::node::{Layout, Node};
use crate::standing::Assessment;
use crate::{Cluster, NodeName, PolicyName, Write};
use labels::Labels;
use member::Member;
use outlook::{Outlook, Reason};
use slices::Slices;

/// Which domain: the same fabric is another domain for another driver's devices.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DomainId {
    pub(crate) driver: DriverName,
    pub(crate) name: Arc<str>,
}

impl DomainId {
    pub(crate) fn device(&self) -> DeviceName {
        DeviceName::domain(&self.name)
    }
}

/// For people.
impl fmt::Display for DomainId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)
    }
}

/// The domains that a policy's devices lie in.
#[derive(Debug, Default)]
pub(crate) struct OfPolicy {
    pub(crate) offered: BTreeSet<DomainId>,
    /// What somebody must do something about comes first.
    pub(crate) hindered: BTreeSet<(Reason, DomainId)>,
}

/// All domains of the drivers whose domains are offered.
#[derive(Debug, Default)]
pub(crate) struct Domains {
    drivers: BTreeSet<DriverName>,
    /// The domains that each node lies in.
    of_nodes: BTreeMap<NodeName, BTreeSet<DomainId>>,
    nodes: BTreeMap<DomainId, BTreeSet<NodeName>>,
    outlooks: BTreeMap<DomainId, Outlook>,
    of_policies: BTreeMap<PolicyName, OfPolicy>,
    /// Those that have to be looked at anew.
    stale: BTreeSet<DomainId>,
    slices: Slices,
    labels: Labels,
    /// The server stores slices without the taints of their devices.
    drops_taints: bool,
}

/// What is known of nodes.
#[derive(Clone, Copy)]
pub(crate) struct Nodes<'a> {
    pub(crate) layouts: &'a BTreeMap<NodeName, Layout>,
    pub(crate) assessments: &'a BTreeMap<NodeName, Assessment>,
    pub(crate) agents: &'a Agents,
}

impl Domains {
    /// Something of a node, its NodeLayout or its agent has changed.
    pub(crate) fn node_is(&mut self, name: &NodeName, node: Option<&Node>, layout: Option<&Layout>) {
        if self.drivers.is_empty() {
            return;
        }
        let layout = node.and_then(|node| layout.filter(|layout| layout.is_of(node)));
        let lies_in = layout.map(|layout| member::domains(layout, &self.drivers)).unwrap_or_default();
        self.labels.look(name, node, &lies_in);
        let before = self.of_nodes.remove(name).unwrap_or_default();
        for left in before.difference(&lies_in) {
            if let Some(nodes) = self.nodes.get_mut(left) {
                nodes.remove(name);
            }
        }
        for domain in &lies_in {
            self.nodes.entry(domain.clone()).or_default().insert(name.clone());
        }
        self.stale.extend(before.into_iter().chain(lies_in.iter().cloned()));
        if !lies_in.is_empty() {
            self.of_nodes.insert(name.clone(), lies_in);
        }
    }

    /// Looks at domains of which something has changed.
    pub(crate) fn look(&mut self, known: Nodes<'_>) {
        for domain in std::mem::take(&mut self.stale) {
            self.forget(&domain);
            let nodes = self.nodes.get(&domain).into_iter().flatten();
            let members: Vec<_> = nodes.filter_map(|node| Member::new(node, &domain, known)).collect();
            let name = slices::name(&domain);
            if members.is_empty() {
                self.nodes.remove(&domain);
                self.slices.want(name, None);
                continue;
            }
            let outlook = Outlook::new(&domain, &members);
            self.slices.want(name, outlook.slice(&domain, self.drops_taints));
            for policy in &outlook.policies {
                let of_policy = self.of_policies.entry(policy.clone()).or_default();
                match &outlook.obstacle {
                    None => of_policy.offered.insert(domain.clone()),
                    Some(obstacle) => of_policy.hindered.insert((obstacle.reason, domain.clone())),
                };
            }
            self.outlooks.insert(domain, outlook);
        }
    }

    fn forget(&mut self, domain: &DomainId) {
        let Some(outlook) = self.outlooks.remove(domain) else { return };
        for policy in &outlook.policies {
            let Some(of_policy) = self.of_policies.get_mut(policy) else { continue };
            of_policy.offered.remove(domain);
            if let Some(obstacle) = &outlook.obstacle {
                of_policy.hindered.remove(&(obstacle.reason, domain.clone()));
            }
            if of_policy.offered.is_empty() && of_policy.hindered.is_empty() {
                self.of_policies.remove(policy);
            }
        }
    }

    /// What is to be written, until it is known to be done.
    pub(crate) fn writes(&mut self) -> impl Iterator<Item = Write> {
        self.labels.writes().into_iter().chain(self.slices.writes()).map(Write::Domain)
    }
}

impl Cluster {
    /// From now on domains of these drivers' devices are offered, and of no others'.
    pub fn offer_domains(&mut self, drivers: impl IntoIterator<Item = DriverName>) {
        self.domains.drivers = drivers.into_iter().collect();
    }

    /// A slice without a node is there, or was changed.
    pub fn domain_slice(&mut self, slice: ResourceSlice) {
        self.domains.slices.seen(slice);
    }

    /// A slice without a node is gone.
    pub fn domain_slice_gone(&mut self, metadata: &ObjectMeta) {
        self.domains.slices.gone(metadata);
    }

    /// These are all slices of a driver that have no node.
    pub fn domain_slices_are(&mut self, driver: &DriverName, names: &BTreeSet<String>) {
        self.domains.slices.are(driver, names);
    }

    /// A write of a slice was answered with this. Says whether the server keeps taints, as far as that can be seen: of a
    /// device that has lost them nobody would know that it must not be taken.
    pub fn domain_slice_written(&mut self, stored: ResourceSlice) -> bool {
        let keeps = self.domains.slices.written(stored);
        if !keeps {
            self.taints_are_dropped();
        }
        keeps
    }

    /// The server stores slices without the taints of their devices: it was seen to.
    pub fn taints_are_dropped(&mut self) {
        if !std::mem::replace(&mut self.domains.drops_taints, true) {
            let domains = &mut self.domains;
            domains.stale.extend(domains.outlooks.keys().cloned());
        }
    }

    /// A write of a node's labels was answered.
    pub fn node_labelled(&mut self, node: &NodeName) {
        self.domains.labels.written(node);
    }
}
