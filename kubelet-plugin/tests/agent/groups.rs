//! Several GPUs at once that lie together, as one device.

use testkit::kubelet::Answer;
use testkit::{GPUS, Node, Plugin};

use crate::{AGENT, assert_nothing_left};

async fn grouping(profile: &str) -> (Node, Plugin) {
    let mut node = Node::new(AGENT, profile);
    node.start_kubelet(Answer::Confirm);
    node.start_agent(&["--offer", "groups"]);
    node.wait("the agent", |node| node.ready_after(0)).await;
    let plugin = node.connect().await;
    (node, plugin)
}

/// The groups of a size, with their members' GPUs in the order of the slices.
fn groups(node: &Node, size: i64) -> Vec<String> {
    let named = |device: &serde_json::Value| device["name"].as_str().unwrap().to_owned();
    let of_size = |device: &&serde_json::Value| device["attributes"]["tessera.dev/groupSize"]["int"] == size;
    node.devices().iter().filter(of_size).map(named).collect()
}

#[tokio::test]
async fn one_device_is_several_gpus() {
    let (node, plugin) = grouping("dgx-h100").await;
    let sizes = [2, 4, 8].map(|size| groups(&node, size).len());
    assert_eq!(sizes, [4, 2, 1]);

    let claim = node.allocated("training", &groups(&node, 4)[1]);
    let devices = plugin.prepare(&claim).await.unwrap();
    assert_eq!((devices.len(), devices[0].cdi_device_ids.len()), (1, 4));
    assert_eq!(plugin.prepare(&claim).await.unwrap(), devices);

    let (member, all) = (node.allocated("member", GPUS[0]), node.allocated("all", &groups(&node, 8)[0]));
    for claim in [&member, &all] {
        assert!(plugin.prepare(claim).await.unwrap_err().contains("is still held by claim team/training"));
    }
    let other = node.allocated("other", &groups(&node, 4)[0]);
    plugin.prepare(&other).await.unwrap();
    plugin.unprepare(&claim).await.unwrap();
    plugin.prepare(&member).await.unwrap();
    for claim in [&other, &member] {
        plugin.unprepare(claim).await.unwrap();
    }
    assert_nothing_left(&node);
}

#[tokio::test]
async fn a_group_with_a_lost_member_is_lost() {
    let (node, plugin) = grouping("dgx-h100").await;
    node.hardware("set 0 lost=true");
    let tainted =
        |devices: &[serde_json::Value]| devices.iter().filter(|device| !device["taints"].is_null()).count() == 4;
    node.wait_for_devices("the GPU, its pair, its quad and the octet", tainted).await;
    let quads = groups(&node, 4);
    let refused = plugin.prepare(&node.allocated("training", &quads[1])).await.unwrap_err();
    assert!(refused.contains("is lost"), "{refused}");
    plugin.prepare(&node.allocated("other", &quads[0])).await.unwrap();
}
