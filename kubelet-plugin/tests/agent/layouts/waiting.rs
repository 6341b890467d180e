//! Who has a device is waited for, and how long.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::kubelet::Answer;
use testkit::{GPUS, Node};

use super::{
    FLAGS, all_ready, answered, desired, following, instances, partitions, published, reaches, seven, start, two, want,
};
use crate::AGENT;

fn within(mut device: Value, seconds: u32, then: &str) -> Value {
    device["drain"] = json!({"deadlineSeconds": seconds, "afterDeadline": then});
    device
}

#[tokio::test]
async fn a_device_that_is_not_let_go_keeps_its_layout() {
    let (node, plugin) = following().await;
    let claim = node.allocated("training", GPUS[0]);
    plugin.prepare(&claim).await.unwrap();
    let patient = |attempt: u32| {
        let mut device = within(desired(GPUS[0], seven()), 1, "GiveUp");
        device["attempt"] = json!(attempt);
        device
    };
    want(&node, &[patient(1)]);
    let failed = reaches(&node, GPUS[0], "Failed").await;
    let message = failed["message"].as_str().unwrap();
    assert!(
        message.contains("given up after 1 s: waiting for claim team/training") && message.len() < 256,
        "{message}"
    );
    assert_eq!((&failed["attempt"], &failed["layout"]), (&json!(1), &Value::Null));
    node.wait("the taint to go", |node| published(node, GPUS[0])[GPUS[0]].is_empty().then_some(())).await;
    let events = node.api.events();
    assert!(events.iter().any(|(reason, note)| reason == "LayoutFailed" && note.contains("given up")), "{events:?}");

    // It is not tried again before somebody says so.
    plugin.unprepare(&claim).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(answered(&node).unwrap()[GPUS[0]]["state"], "Failed");
    want(&node, &[patient(2)]);
    reaches(&node, GPUS[0], "Ready").await;
    assert_eq!(instances(&node, 0).len(), 7);
}

#[tokio::test]
async fn pods_are_evicted_only_where_the_policy_says_so_and_the_deadline_outlives_the_agent() {
    let (mut node, plugin) = following().await;
    let claim = node.allocated("training", GPUS[0]);
    plugin.prepare(&claim).await.unwrap();
    want(&node, &[within(desired(GPUS[0], two()), 8, "Evict")]);
    reaches(&node, GPUS[0], "Draining").await;
    let taint = |effect: &str| vec![format!("tessera.dev/repartitioning=research:{effect}")];
    let tainted = |node: &Node, effect: &str| (published(node, GPUS[0])[GPUS[0]] == taint(effect)).then_some(());
    node.wait("a taint", |node| tainted(node, "NoSchedule")).await;
    node.kill().await;
    let plugin = start(&mut node, FLAGS).await;
    node.wait("the eviction", |node| tainted(node, "NoExecute")).await;
    let says_so = |node: &Node| {
        let message = answered(node)?[GPUS[0]]["message"].as_str()?.to_owned();
        message.contains("its pods are being evicted, waiting for claim team/training").then_some(())
    };
    node.wait("the answer", says_so).await;
    assert!(node.api.events().iter().any(|(reason, _)| reason == "DeviceEvicting"));
    assert_eq!(instances(&node, 0).len(), 0, "not before its pods have ended");
    plugin.unprepare(&claim).await.unwrap();
    reaches(&node, GPUS[0], "Ready").await;
    assert_eq!(instances(&node, 0).len(), 2);
}

/// Allocated before the taint, prepared after it: a user like any other. Prepared while the device is changed: refused, and told
/// that this is tried again.
#[tokio::test]
async fn who_was_given_a_device_before_is_waited_for_or_told() {
    let mut node = Node::new(AGENT, "dgx-h100");
    node.start_kubelet(Answer::Confirm);
    let plugin = start(&mut node, &["--layout-grace", "3", "--node-layouts"]).await;
    let late = node.allocated("late", GPUS[0]);
    want(&node, &[desired(GPUS[0], two()), desired(GPUS[1], two())]);
    reaches(&node, GPUS[0], "Draining").await;
    plugin.prepare(&late).await.unwrap();
    reaches(&node, GPUS[1], "Ready").await;
    let waits = answered(&node).unwrap()[GPUS[0]].clone();
    assert_eq!(waits["message"], "waiting for claim team/late");

    node.hardware("set 0 latency_ms=60000 function=nvmlDeviceCreateGpuInstanceWithPlacement times=1");
    plugin.unprepare(&late).await.unwrap();
    reaches(&node, GPUS[0], "Changing").await;
    assert_eq!(published(&node, GPUS[0]).len(), 0, "nobody can be given it");
    let refusal = plugin.prepare(&late).await.unwrap_err();
    assert!(refusal.contains("is being changed by policy research") && refusal.len() < 256, "{refusal}");
    node.hardware("set 0 latency_ms=0");
    reaches(&node, GPUS[0], "Ready").await;
    let refusal = plugin.prepare(&late).await.unwrap_err();
    assert!(refusal.contains("policy research makes the accelerator 3g.40gb, 4g.40gb"), "{refusal}");
}

#[tokio::test]
async fn what_was_made_by_hand_is_named_and_waited_for_or_is_just_what_is_wanted() {
    let (node, _) = following().await;
    for gpu in 0..2 {
        node.hardware(&format!("mig {gpu} on"));
        node.hardware(&format!("mig {gpu} create 3g.40gb@4"));
    }
    node.wait("what was made", |node| (published(node, GPUS[1]).len() == 1).then_some(())).await;
    let three = partitions(&[("3g.40gb", 1)]);
    want(&node, &[desired(GPUS[0], seven()), desired(GPUS[1], three.clone())]);
    let waits = reaches(&node, GPUS[0], "Draining").await;
    assert_eq!(waits["message"], "waiting for a partition at 4:4 that was made by hand (remove it)");
    let adopted = reaches(&node, GPUS[1], "Ready").await;
    assert_eq!(adopted["layout"], three);
    node.hardware("mig 0 destroy 2");
    all_ready(&node).await;
    assert_eq!((instances(&node, 0).len(), instances(&node, 1).len()), (7, 1));
}

#[tokio::test]
async fn another_word_meanwhile_is_what_counts() {
    let (node, plugin) = following().await;
    let claim = node.allocated("training", GPUS[0]);
    plugin.prepare(&claim).await.unwrap();
    want(&node, &[desired(GPUS[0], seven())]);
    reaches(&node, GPUS[0], "Draining").await;
    want(&node, &[]);
    reaches(&node, GPUS[0], "Ready").await;
    node.wait("no taint", |node| published(node, GPUS[0])[GPUS[0]].is_empty().then_some(())).await;
    want(&node, &[desired(GPUS[0], seven())]);
    reaches(&node, GPUS[0], "Draining").await;
    // In the midst of a change.
    node.hardware("set 0 latency_ms=60000 function=nvmlDeviceCreateGpuInstanceWithPlacement times=1");
    plugin.unprepare(&claim).await.unwrap();
    reaches(&node, GPUS[0], "Changing").await;
    want(&node, &[desired(GPUS[0], two())]);
    node.hardware("set 0 latency_ms=0");
    let two_there = |node: &Node| (answered(node)?[GPUS[0]]["layout"] == two()).then_some(());
    node.wait("the latest", two_there).await;
    all_ready(&node).await;
    assert_eq!(instances(&node, 0).len(), 2);
}
