use std::collections::{BTreeMap, BTreeSet, VecDeque};

use k8s_openapi::jiff::Timestamp;
use tessera_policy::PartitionPolicy;
use tessera_rollout::{Cluster, NodeName, Write};

use crate::fault::Fault;
use crate::server::{Answer, Event, Server};

/// A controller: what it knows, and what it has decided and not sent yet.
pub(crate) struct Controller {
    cluster: Cluster,
    /// How far each of its watches has come: policies, nodes, NodeLayouts.
    seen: [usize; 3],
    decided: VecDeque<Write>,
    fault: Option<Fault>,
    /// The policies as it knows them, for the fault that needs them.
    policies: BTreeMap<String, PartitionPolicy>,
}

fn kind(event: &Event) -> usize {
    match event {
        Event::Policy(_) | Event::PolicyGone(_) => 0,
        Event::Node(..) | Event::NodeGone(_) => 1,
        Event::Layout(_) | Event::LayoutGone(_) => 2,
    }
}

impl Controller {
    /// One that has listed everything.
    pub(crate) fn start(server: &Server) -> Self {
        let mut cluster = Cluster::default();
        let policies = server.policies.clone();
        policies.values().cloned().for_each(|policy| cluster.policy(policy));
        for (name, node) in &server.nodes {
            let name = NodeName::from(name.as_str());
            cluster.node(name.clone(), node.uid.clone(), node.labels.clone());
            cluster.node_readiness(&name, (!node.ready).then_some(Timestamp::UNIX_EPOCH));
        }
        server.layouts.values().cloned().for_each(|layout| cluster.layout(layout));
        cluster.layouts_seen_until(server.version());
        let (seen, decided) = ([server.log.len(); 3], VecDeque::new());
        Self { cluster, seen, decided, fault: server.fault, policies }
    }

    /// Takes the next event of a kind; says whether there was one.
    pub(crate) fn hear(&mut self, server: &Server, of: usize) -> bool {
        while let Some(event) = server.log.get(self.seen[of]) {
            self.seen[of] += 1;
            if kind(event) != of {
                continue;
            }
            match event.clone() {
                Event::Policy(policy) => self.know(policy),
                Event::PolicyGone(policy) => self.cluster.policy_gone(&policy.metadata),
                Event::Node(name, node) => {
                    let name = NodeName::from(name.as_str());
                    self.cluster.node(name.clone(), node.uid, node.labels);
                    self.cluster.node_readiness(&name, (!node.ready).then_some(Timestamp::UNIX_EPOCH));
                }
                Event::NodeGone(name) => self.cluster.node_gone(&NodeName::from(name.as_str())),
                Event::Layout(layout) => self.cluster.layout(layout),
                Event::LayoutGone(layout) => self.cluster.layout_gone(&layout.metadata),
            }
            return true;
        }
        false
    }

    /// A watch breaks, and lists everything anew.
    pub(crate) fn list_anew(&mut self, server: &Server) {
        let names: BTreeSet<NodeName> = server.layouts.keys().map(|name| name.as_str().into()).collect();
        server.layouts.values().cloned().for_each(|layout| self.cluster.layout(layout));
        self.cluster.layouts_seen_until(server.version());
        self.cluster.layouts_are(&names);
        self.seen[2] = server.log.len();
    }

    pub(crate) fn decide(&mut self) {
        self.decided = self.cluster.decide(Timestamp::UNIX_EPOCH).into();
        if self.fault == Some(Fault::TurnsAreUsedBeforeTheyAreStored) {
            for write in &self.decided {
                let Write::Status { policy, status, .. } = write else { continue };
                let Some(mut policy) = self.policies.get(policy.as_ref()).cloned() else { continue };
                policy.status = Some((**status).clone());
                self.cluster.policy(policy);
            }
            self.decided.extend(self.cluster.decide(Timestamp::UNIX_EPOCH));
        }
    }

    fn know(&mut self, policy: PartitionPolicy) {
        self.policies.insert(policy.metadata.name.clone().unwrap(), policy.clone());
        self.cluster.policy(policy);
    }

    /// Sends the first that it decided; says whether there was one. Its answer may be lost.
    pub(crate) fn send(&mut self, server: &mut Server, answered: bool) -> bool {
        let Some(write) = self.decided.pop_front() else { return false };
        match (self.fault, &write) {
            (Some(Fault::NothingIsFenced), Write::Fence { .. }) => return true,
            (Some(Fault::TurnsEndUnfenced), Write::Fence { node, .. }) => {
                server.end_turn(node.as_ref());
                return true;
            }
            _ => {}
        }
        match server.write(write).filter(|_| answered) {
            Some(Answer::Policy(policy)) => self.know(policy),
            Some(Answer::Layout(layout)) => self.cluster.layout_written(layout),
            Some(Answer::Nothing) | None => {}
        }
        true
    }

    /// What it would still have sent, had it not been killed: some of it may be on its way.
    pub(crate) fn late(self) -> VecDeque<Write> {
        self.decided
    }
}
