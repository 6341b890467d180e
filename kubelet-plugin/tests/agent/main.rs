//! The agent as a process, between a kubelet, an API server and hardware that are stand-ins. Each test has a node of
//! its own. All of it is one program, so that the slow tests run beside the others.
//!
//! Needs `cargo build -p fake-nvml` before.

// Also in helpers of tests, which clippy.toml does not reach.
#![allow(clippy::unwrap_used, clippy::panic)]

mod claims;
mod device_plugin;
mod downgrade;
mod drivers;
mod failures;
mod features;
mod flags;
mod groups;
mod hardware;
mod health;
mod http;
mod inspect;
#[cfg(target_arch = "x86_64")]
mod interrupted;
mod kubelet;
mod layouts;
mod outage;
mod partitions;
mod passthrough;
mod plugin_config;
mod products;
mod publishing;
mod reboot;
mod reconciler;
mod records;
mod registration;
mod restart;

use std::time::{Duration, Instant};

use tessera_kubelet_api::dra_v1::Device;
use testkit::kubelet::Prepared;
use testkit::{Claim, Node, PATIENCE, Plugin};
use tonic::Status;

const AGENT: &str = env!("CARGO_BIN_EXE_tessera-agent");

/// A node with eight GPUs, its agent registered and its slices published.
async fn node() -> (Node, Plugin) {
    let mut node = Node::new(AGENT, "dgx-h100");
    let plugin = node.start().await;
    (node, plugin)
}

/// Nothing of any claim is left on the node.
#[track_caller]
fn assert_nothing_left(node: &Node) {
    assert_eq!((node.specs(), node.records()), (Vec::new(), Vec::new()));
}

/// Prepares a claim, again where the API server gave no answer within ten seconds, as the kubelet does: its stand-in shares
/// the processors with all tests.
async fn prepare_once_answered(plugin: &Plugin, claim: &Claim) -> Result<Prepared, Status> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match plugin.prepare_all(&[claim]).await?.remove(&claim.uid).unwrap() {
            Err(refusal) if refusal.contains("did not answer for claim") && Instant::now() < deadline => {}
            answer => return Ok(answer),
        }
    }
}

/// What is said of a GPU that nobody has: by an agent that has seen it before, and by one that has not.
const UNSEEN: [&str; 2] = ["its driver no longer answers for it", "is not on this node any more"];

/// Prepares a claim, as often as the kubelet does: a GPU that nobody had for a moment must be seen with its driver first.
async fn prepare_once_seen(plugin: &Plugin, claim: &Claim) -> Vec<Device> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match prepare_once_answered(plugin, claim).await.unwrap() {
            Ok(devices) => return devices,
            Err(refusal) if UNSEEN.iter().any(|unseen| refusal.contains(unseen)) && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(refusal) => panic!("{refusal}"),
        }
    }
}

/// A slice without what differs in each run.
fn stable(mut slice: serde_json::Value) -> serde_json::Value {
    for field in ["uid", "resourceVersion", "creationTimestamp"] {
        slice["metadata"].as_object_mut().unwrap().remove(field);
    }
    slice
}
