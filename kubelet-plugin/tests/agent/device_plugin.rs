//! The device plugin API beside claims: what the kubelet is offered, what containers get, and that no device has two owners.

mod hand_over;
mod loans;
mod parts;
mod ways;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use testkit::kubelet::{Allocated, Answer, DeviceManager};
use testkit::{GPUS, Node};

use crate::AGENT;

const GPU: &str = "nvidia.com/gpu";

/// A node that offers its eight GPUs by these flags.
async fn node_with(flags: &[&str]) -> (Node, DeviceManager) {
    node_of("dgx-h100", &[], flags).await
}

/// A node of this hardware, to which an admin has done this.
async fn node_of(profile: &str, commands: &[&str], flags: &[&str]) -> (Node, DeviceManager) {
    let mut node = Node::new(AGENT, profile);
    commands.iter().for_each(|command| node.hardware(command));
    node.start_kubelet(Answer::Confirm);
    let manager = DeviceManager::start(&node.kubelet_dir());
    node.start_agent(flags);
    node.wait("registered and ready", |node| node.ready_after(0)).await;
    (node, manager)
}

/// The agent ends, and another one with these flags takes its place.
async fn replace(node: &mut Node, flags: &[&str]) {
    node.stop().await;
    start_again(node, flags).await;
}

/// Another agent starts, after one that has ended.
async fn start_again(node: &mut Node, flags: &[&str]) {
    let known = node.kubelet().registrations().len();
    node.start_agent(flags);
    node.wait("ready again", |node| node.ready_after(known)).await;
}

async fn healthy(node: &Node, manager: &DeviceManager, resource: &str, count: usize) -> Vec<String> {
    let look = |_: &Node| Some(manager.healthy(resource)).filter(|healthy| healthy.len() == count);
    node.wait(&format!("{count} healthy of {resource}"), look).await
}

/// The names that the container runtime looks up, and the spec in which it finds them.
fn described(node: &Node, allocated: &Allocated) -> (Vec<String>, serde_json::Value) {
    let names = allocated.answer.cdi_devices.iter().map(|device| device.name.clone()).collect();
    let path = node.cdi_dir().join("tessera.gpu.nvidia.com-device_units.json");
    (names, serde_json::from_slice(&fs::read(path).unwrap()).unwrap())
}

/// The devices that a taint keeps new claims off.
fn lent(node: &Node) -> Vec<String> {
    let tainted = |device: &serde_json::Value| device["taints"].to_string().contains("tessera.dev/lent");
    let devices = node.devices().into_iter().filter(tainted);
    devices.map(|device| device["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_container_gets_two_gpus_and_the_runtime_knows_them() {
    let (node, manager) = node_with(&["--api", "both"]).await;
    healthy(&node, &manager, GPU, 8).await;
    let devices = manager.devices(GPU);
    assert!(devices.iter().all(|device| device.topology.as_ref().is_some_and(|topology| topology.nodes.len() == 1)));
    let allocated = manager.admit(GPU, 2).await.unwrap();
    let (names, spec) = described(&node, &allocated);
    assert_eq!(spec["kind"], "tessera.gpu.nvidia.com/device");
    let known: Vec<String> =
        spec["devices"].as_array().unwrap().iter().map(|device| device["name"].to_string()).collect();
    for name in &names {
        let (kind, device) = name.split_once('=').unwrap();
        assert_eq!(kind, "tessera.gpu.nvidia.com/device");
        assert!(known.contains(&format!("{device:?}")), "{name}: {known:?}");
    }
    for id in &allocated.ids {
        assert!(names.iter().any(|name| name.ends_with(&format!("={id}"))), "{id}: {names:?}");
    }
    // Written before anybody asked, and not again.
    let path: PathBuf = node.cdi_dir().join("tessera.gpu.nvidia.com-device_units.json");
    let written = fs::metadata(&path).unwrap().modified().unwrap();
    manager.admit(GPU, 1).await.unwrap();
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);
    assert_eq!(node.records(), Vec::<String>::new(), "no record of it either");
}

#[tokio::test]
async fn what_a_claim_holds_is_unhealthy_and_what_pods_have_is_refused_to_claims() {
    let (node, manager) = node_with(&["--api", "both"]).await;
    healthy(&node, &manager, GPU, 8).await;
    let plugin = node.connect().await;

    // A claim's device: unhealthy at once, refused to a kubelet that has not heard of it, healthy again afterwards.
    let claim = node.allocated("training", GPUS[0]);
    plugin.prepare(&claim).await.unwrap();
    let left = healthy(&node, &manager, GPU, 7).await;
    let all = manager.devices(GPU).into_iter().map(|device| device.id);
    let held: Vec<String> = all.filter(|id| !left.contains(id)).collect();
    let refused = manager.allocate(GPU, &held).await.unwrap_err();
    assert!(refused.contains("is held by claim team/training"), "{refused}");

    // What a pod has: tainted, and no claim is prepared with it.
    let allocated = manager.allocate(GPU, &left[..1]).await.unwrap();
    node.wait("a taint", |node| (lent(node) == [GPUS[1]]).then_some(())).await;
    let other = node.allocated("other", GPUS[1]);
    let refused = plugin.prepare(&other).await.unwrap_err();
    assert!(refused.contains("is used by pods that asked for nvidia.com/gpu"), "{refused}");

    // Both end.
    plugin.unprepare(&claim).await.unwrap();
    healthy(&node, &manager, GPU, 8).await;
    manager.free(GPU, &allocated.ids);
    node.wait("no taint", |node| lent(node).is_empty().then_some(())).await;
    plugin.prepare(&other).await.unwrap();
}

/// By the kubelet's checkpoint: no pod is listed, as by a kubelet that has just started or of a container that prepares a pod.
#[tokio::test]
async fn an_agent_that_starts_knows_what_pods_have() {
    let (mut node, mut manager) = node_with(&["--api", "both"]).await;
    healthy(&node, &manager, GPU, 8).await;
    let allocated = manager.admit(GPU, 1).await.unwrap();
    let tainted = node.wait("a taint", |node| Some(lent(node)).filter(|lent| lent.len() == 1)).await;
    let claim = node.allocated("training", &tainted[0]);
    node.kill().await;
    manager.restart();
    start_again(&mut node, &["--api", "both"]).await;
    let refused = node.connect().await.prepare(&claim).await.unwrap_err();
    assert!(refused.contains("is used by pods that asked for nvidia.com/gpu"), "{refused}");

    // And it stays so for as long as the kubelet does not say otherwise.
    healthy(&node, &manager, GPU, 8).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(lent(&node), tainted);
    manager.free(GPU, &allocated.ids);
    node.wait("no taint", |node| lent(node).is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_kubelet_that_starts_anew_is_told_again_on_a_fresh_socket() {
    let (node, mut manager) = node_with(&["--api", "device-plugin"]).await;
    healthy(&node, &manager, GPU, 8).await;
    let before = manager.registrations().len();
    manager.restart();
    healthy(&node, &manager, GPU, 8).await;
    let registrations = manager.registrations();
    assert!(registrations.len() > before);
    let (first, last) = (registrations.first().unwrap(), registrations.last().unwrap());
    assert_eq!((&*first.resource_name, &*last.resource_name), (GPU, GPU));
    assert_ne!(first.endpoint, last.endpoint);
}

#[tokio::test]
async fn a_gpu_that_is_lost_is_unhealthy_until_it_is_back() {
    let (node, manager) = node_with(&["--api", "device-plugin"]).await;
    healthy(&node, &manager, GPU, 8).await;
    node.hardware("set 3 lost=true");
    healthy(&node, &manager, GPU, 7).await;
    assert_eq!(manager.devices(GPU).len(), 8);
    node.hardware("set 3 lost=false");
    healthy(&node, &manager, GPU, 8).await;
}

#[tokio::test]
async fn a_node_of_the_device_plugin_publishes_only_what_claims_hold() {
    let (mut node, manager) = node_with(&["--api", "dra"]).await;
    let plugin = node.connect().await;
    plugin.prepare(&node.allocated("training", GPUS[2])).await.unwrap();
    assert_eq!((node.devices().len(), manager.registrations().len()), (8, 0));
    replace(&mut node, &["--api", "device-plugin"]).await;
    node.wait_for_devices("the claim's device alone", |devices| devices.len() == 1 && devices[0]["name"] == GPUS[2])
        .await;
    healthy(&node, &manager, GPU, 7).await;
}

#[tokio::test]
async fn four_pods_share_a_gpu_as_the_config_says() {
    let config = "{version: v1, sharing: {timeSlicing: {renameByDefault: true, failRequestsGreaterThanOne: true, \
                  resources: [{name: nvidia.com/gpu, devices: 1, replicas: 4}]}}}";
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), config).unwrap();
    let flags = ["--api", "both", "--config-file", file.path().to_str().unwrap()];
    let (node, manager) = node_with(&flags).await;
    let shared = "nvidia.com/gpu.shared";
    healthy(&node, &manager, shared, 4).await;
    healthy(&node, &manager, GPU, 7).await;
    let refused = manager.admit(shared, 2).await.unwrap_err();
    assert!(refused.contains("a container may ask for one only"), "{refused}");
    let mut names = Vec::new();
    for _ in 0..4 {
        names.push(described(&node, &manager.admit(shared, 1).await.unwrap()).0);
    }
    assert!(names.iter().all(|one| *one == names[0]), "all the same GPU: {names:?}");
    assert!(manager.admit(shared, 1).await.is_err());
    node.wait("one taint", |node| (lent(node) == [GPUS[0]]).then_some(())).await;
}
