//! The slices on the API server: complete, stable, and repaired.

use std::time::Duration;

use serde_json::json;
use testkit::Node;
use testkit::api_server::{Fault, Resource};

use crate::{AGENT, node, stable};

const SLICE: &str = "node-1-gpu.nvidia.com-000";

#[tokio::test]
async fn the_slice_of_a_dgx_h100() {
    let (node, _plugin) = node().await;
    let slices: Vec<_> = node.api.slices().into_iter().map(stable).collect();
    insta::assert_json_snapshot!(slices);
}

#[tokio::test]
async fn sixteen_gpus_and_two_pci_domains() {
    let mut node = Node::new(AGENT, "h100x16");
    node.start().await;
    let devices = node.devices();
    let names: Vec<_> = devices.iter().map(|device| device["name"].as_str().unwrap()).collect();
    assert!(names.len() == 16 && names.is_sorted() && names[15].starts_with("gpu-0001-"), "{names:?}");
}

#[tokio::test]
async fn a_restart_writes_nothing() {
    let (mut node, _plugin) = node().await;
    let before = node.api.slices();
    for kill in [false, true] {
        node.api.forget_requests();
        if kill {
            node.kill().await
        } else {
            node.stop().await
        };
        node.start().await;
        // Long enough for three looks at the hardware.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(node.api.requests().writes(), 0, "killed: {kill}");
        assert_eq!(node.api.slices(), before, "killed: {kill}");
    }
}

#[tokio::test]
async fn wiped_slices_are_back_by_what_the_watch_tells() {
    let (node, _plugin) = node().await;
    let before = node.devices();
    node.api.forget_requests();
    node.api.wipe_slices(Node::NAME);
    node.wait_for_devices("the devices", |devices| devices == before).await;
    assert_eq!(node.api.requests().of("list", Resource::Slices), 0, "nothing is read anew for it");
}

#[tokio::test]
async fn what_a_person_does_to_a_slice_is_undone() {
    let (node, _plugin) = node().await;
    let before = node.devices();
    node.api.delete(Resource::Slices, "", SLICE);
    node.wait_for_devices("the deleted slice", |devices| devices == before).await;
    node.api.edit(Resource::Slices, "", SLICE, |slice| slice["spec"]["devices"] = json!([]));
    node.wait_for_devices("the edited slice", |devices| devices == before).await;

    // A slice too many goes; one of another driver stays.
    let mut foreign = node.api.slices()[0].clone();
    foreign["metadata"] = json!({"name": "a-nic"});
    foreign["spec"]["driver"] = json!("nic.example.com");
    let mut surplus = node.api.slices()[0].clone();
    surplus["metadata"] = json!({"name": "surplus"});
    node.api.put(Resource::Slices, foreign);
    node.api.put(Resource::Slices, surplus);
    let names = |node: &Node| -> Vec<_> {
        node.api.slices().iter().map(|slice| slice["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    node.wait("the surplus slice goes", |node| (names(node) == ["a-nic", SLICE]).then_some(())).await;
}

#[tokio::test]
async fn writes_that_fail_are_repeated() {
    let (node, _plugin) = node().await;
    for (number, code) in [409, 429, 500, 403].into_iter().enumerate() {
        node.api.fail(Resource::Slices, 2, Fault::Status(code));
        node.hardware(&format!("set {number} present=false"));
        node.wait_for_devices(&format!("after {code}"), |devices| devices.len() == 7 - number).await;
    }
}

#[tokio::test]
async fn a_server_that_stumbles_at_the_start_is_no_obstacle() {
    let mut node = Node::new(AGENT, "dgx-h100");
    node.api.fail(Resource::Slices, 2, Fault::Status(500));
    node.api.fail(Resource::Nodes, 2, Fault::Status(429));
    node.start().await;
    assert_eq!(node.devices().len(), 8);
}

#[tokio::test]
async fn a_history_that_is_forgotten_is_read_anew() {
    let (node, _plugin) = node().await;
    let before = node.devices();
    for _ in 0..3 {
        node.api.wipe_slices(Node::NAME);
        node.api.compact();
        node.wait_for_devices("the devices", |devices| devices == before).await;
    }
}

#[tokio::test]
async fn a_node_that_was_made_anew_owns_the_slices() {
    let (node, _plugin) = node().await;
    node.api.delete(Resource::Nodes, "", Node::NAME);
    node.api.put_node(Node::NAME, "another-uid");
    // The garbage collector, once it has noticed that the owner is gone.
    node.api.wipe_slices(Node::NAME);
    let owner = |node: &Node| node.api.slices().first().map(|slice| slice["metadata"]["ownerReferences"].clone());
    let owners = node.wait("slices", owner).await;
    let expected =
        json!([{"apiVersion": "v1", "kind": "Node", "name": Node::NAME, "uid": "another-uid", "controller": true}]);
    assert_eq!(owners, expected);
}

#[tokio::test]
async fn a_node_object_that_comes_late_is_waited_for() {
    let mut node = Node::new(AGENT, "dgx-h100");
    node.api.delete(Resource::Nodes, "", Node::NAME);
    node.start_agent(&[]);
    node.wait("a try", |node| (node.api.requests().of("get", Resource::Nodes) > 1).then_some(())).await;
    assert!(node.api.slices().is_empty());
    node.api.put_node(Node::NAME, Node::UID);
    node.wait_for_devices("the devices", |devices| devices.len() == 8).await;
}

#[tokio::test]
async fn a_server_that_says_nothing_does_not_hold_up_the_end() {
    let (mut node, _plugin) = node().await;
    node.api.fail(Resource::Slices, usize::MAX, Fault::Silent);
    node.hardware("set 0 present=false");
    node.wait("a write", |node| (node.api.requests().of("update", Resource::Slices) > 0).then_some(())).await;
    assert_eq!(node.stop().await.code(), Some(0));
    // What it says of a part that it has waited for in vain.
    let log = node.log();
    assert!(!log.contains("still under way") && !log.contains("does not end"), "{log}");
}

/// Takes as long as the agent waits for an answer.
#[tokio::test]
async fn a_server_that_says_nothing_is_asked_again() {
    let (node, _plugin) = node().await;
    node.api.fail(Resource::Slices, 1, Fault::Silent);
    node.hardware("set 0 present=false");
    node.wait("seven devices", |node| (node.devices().len() == 7).then_some(())).await;
}
