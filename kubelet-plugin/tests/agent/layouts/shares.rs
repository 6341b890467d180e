//! A device that several have at once, because a policy says so.

use serde_json::{Value, json};
use testkit::kubelet::{Answer, DeviceManager};
use testkit::{Claim, GPUS, Node};

use super::{FLAGS, answered, desired, following, published, reaches, want};
use crate::AGENT;

fn two_shares() -> Value {
    json!({"shares": {"count": 2}})
}

/// The first GPU as it is published; nothing of it is while it is changed.
fn first(node: &Node) -> Value {
    node.devices().into_iter().find(|device| device["name"] == GPUS[0]).unwrap_or_default()
}

#[tokio::test]
async fn several_claims_have_a_share_and_are_waited_for() {
    let (node, plugin) = following().await;
    let whole = first(&node);
    want(&node, &[desired(GPUS[0], two_shares())]);
    reaches(&node, GPUS[0], "Ready").await;
    let shared = first(&node);
    assert_eq!(shared["allowMultipleAllocations"], true);
    assert_eq!(shared["capacity"]["tessera.dev/shares"]["value"], "2");
    assert_eq!(
        published(&node, "gpu").len(),
        GPUS.len(),
        "nothing else of it is offered, and all others are as they were"
    );

    let share = |name: &str, id: &str| node.known(Claim::new(name).share("gpu", GPUS[0], id));
    let (one, other, third) = (share("one", "s1"), share("other", "s2"), share("third", "s3"));
    let devices = plugin.prepare(&one).await.unwrap();
    assert_eq!(devices[0].share_id.as_deref(), Some("s1"));
    assert_ne!(devices[0].cdi_device_ids, plugin.prepare(&other).await.unwrap()[0].cdi_device_ids);
    let refused = plugin.prepare(&third).await.unwrap_err();
    assert!(refused.contains("is still held by claim"), "{refused}");

    // Withdrawn while both have it: nobody new gets it, and both are waited for.
    want(&node, &[]);
    let waits = |node: &Node| {
        let answer = answered(node)?.remove(GPUS[0])?;
        (answer["state"] == "Draining" && answer["users"] == 2).then_some(())
    };
    node.wait("both to be waited for", waits).await;
    plugin.unprepare(&one).await.unwrap();
    plugin.unprepare(&other).await.unwrap();
    let given_back = |node: &Node| (first(node) == whole).then_some(());
    node.wait("the whole", given_back).await;
}

#[tokio::test]
async fn pods_get_shares_by_count_under_a_name_of_their_own() {
    let mut node = Node::new(AGENT, "dgx-h100");
    node.start_kubelet(Answer::Confirm);
    let manager = DeviceManager::start(&node.kubelet_dir());
    node.start_agent(&[&["--api", "both"], FLAGS].concat());
    node.wait("registered and ready", |node| node.ready_after(0)).await;
    want(&node, &[desired(GPUS[0], two_shares())]);
    let offered = |_: &Node| {
        let healthy = |resource: &str| manager.healthy(resource).len();
        ((healthy("nvidia.com/gpu"), healthy("nvidia.com/gpu.shared")) == (7, 2)).then_some(())
    };
    node.wait("seven GPUs and two shares", offered).await;
    for _ in 0..2 {
        manager.admit("nvidia.com/gpu.shared", 1).await.unwrap();
    }
    // What pods have that way no claim gets.
    let lent = |node: &Node| published(node, GPUS[0]).values().any(|taints| !taints.is_empty()).then_some(());
    node.wait("the taint of what is lent", lent).await;
}
