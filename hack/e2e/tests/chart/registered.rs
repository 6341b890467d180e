//! Whom the kubelet calls while the chart replaces agents, and calls that go on meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::{Calls, Newest, Team, Traffic};
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

/// Gives so many claims the last GPUs of a node: the scheduler gives pods the first ones.
pub(crate) fn allocate_last(node: &SimulatedNode, team: &Team<'_>, claims: usize) -> Vec<Claim> {
    let slices = node.slices().unwrap();
    let gpus = slices.iter().filter(|slice| slice["spec"]["driver"] == Claim::DRIVER);
    let devices = gpus.flat_map(|slice| slice["spec"]["devices"].as_array().into_iter().flatten());
    let mut names: Vec<_> = devices.map(|device| device["name"].as_str().unwrap()).collect();
    names.reverse();
    let claims = names.iter().take(claims).enumerate();
    claims.map(|(number, device)| team.allocate(&format!("claim-{number}"), device)).collect()
}

/// Prepares claims as fast as [`Traffic`] does, from a second before something is done until it is done. Gives what became
/// of them, and the agents that were called.
pub(crate) fn traffic_during(
    node: &SimulatedNode,
    claims: &[Claim],
    change: impl FnOnce() + Send,
) -> (Traffic, Vec<String>) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let mut newest = Registered::on(node);
            (Traffic::until(&over, claims, &mut newest), newest.agents)
        });
        let change = scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(1));
            change();
        });
        let changed = change.join();
        over.store(true, Ordering::Relaxed);
        let traffic = traffic.join().unwrap();
        changed.unwrap();
        traffic
    })
}
