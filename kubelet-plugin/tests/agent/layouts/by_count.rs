//! Pods that ask by count: they are waited for like claims, and get the parts of a layout.

use testkit::kubelet::{Answer, DeviceManager};
use testkit::{GPUS, Node};

use super::{FLAGS, answered, desired, instances, reaches, two, want};
use crate::AGENT;

const GPU: &str = "nvidia.com/gpu";
const LARGE: &str = "nvidia.com/mig-3g.40gb";

#[tokio::test]
async fn pods_without_a_claim_are_waited_for_and_get_the_parts() {
    let mut node = Node::new(AGENT, "dgx-h100");
    node.start_kubelet(Answer::Confirm);
    let manager = DeviceManager::start(&node.kubelet_dir());
    node.start_agent(&[&["--api", "both", "--mig-strategy", "mixed"], FLAGS].concat());
    node.wait("registered and ready", |node| node.ready_after(0)).await;
    let healthy = async |resource: &str, count: usize| {
        let look = |_: &Node| (manager.healthy(resource).len() == count).then_some(());
        node.wait(&format!("{count} healthy of {resource}"), look).await;
    };
    healthy(GPU, 8).await;
    let first = node.devices().into_iter().find(|device| device["name"] == GPUS[0]).unwrap();
    let uuid = first["attributes"]["uuid"]["string"].as_str().unwrap().to_owned();
    let allocated = manager.allocate(GPU, std::slice::from_ref(&uuid)).await.unwrap();
    want(&node, &[desired(GPUS[0], two())]);
    reaches(&node, GPUS[0], "Draining").await;
    healthy(GPU, 7).await;
    let waits = |node: &Node| {
        (answered(node)?[GPUS[0]]["message"] == "waiting for pods that asked for nvidia.com/gpu").then_some(())
    };
    node.wait("who is waited for", waits).await;
    manager.free(GPU, &allocated.ids);
    reaches(&node, GPUS[0], "Ready").await;
    assert_eq!(instances(&node, 0).len(), 2);
    healthy(LARGE, 1).await;
    healthy(GPU, 7).await;
    manager.admit(LARGE, 1).await.unwrap();
}
