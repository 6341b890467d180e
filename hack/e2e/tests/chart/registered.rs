//! Whom the kubelet calls while the chart replaces agents.

use e2e::{Calls, Newest};
use simulated_node::SimulatedNode;
use testkit::Claim;

/// The agent of a node that registered last.
pub(crate) struct Registered<'a> {
    node: &'a SimulatedNode,
    connected: Option<(String, Calls)>,
    /// Their instances, in the order in which they came.
    pub(crate) agents: Vec<String>,
}

impl<'a> Registered<'a> {
    pub(crate) fn on(node: &'a SimulatedNode) -> Self {
        Self { node, connected: None, agents: Vec::new() }
    }
}

impl Newest for Registered<'_> {
    fn calls(&mut self) -> &Calls {
        let newest = self.node.release().newest(Claim::DRIVER).expect("no agent has registered");
        if self.connected.as_ref().is_none_or(|(instance, _)| *instance != newest) {
            self.agents.push(newest.clone());
            self.connected = Some((newest.clone(), Calls::to(self.node, Some(&newest))));
        }
        &self.connected.as_ref().unwrap().1
    }
}
