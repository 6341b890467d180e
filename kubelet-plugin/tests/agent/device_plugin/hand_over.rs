//! A node, or one of its devices, goes over to the other API, and pods keep what they have.

use testkit::GPUS;

use super::{GPU, healthy, lent, node_with, replace};

#[tokio::test]
async fn a_node_goes_over_to_claims_and_pods_by_count_keep_their_devices() {
    let (mut node, manager) = node_with(&["--api", "device-plugin"]).await;
    healthy(&node, &manager, GPU, 8).await;
    let allocated = manager.allocate(GPU, &manager.healthy(GPU)[..1]).await.unwrap();
    assert_eq!(node.devices(), Vec::<serde_json::Value>::new(), "by count alone");

    for api in ["both", "dra"] {
        replace(&mut node, &["--api", api]).await;
        node.wait_for_devices("all of them", |devices| devices.len() == 8).await;
        node.wait("one taint", |node| (lent(node) == [GPUS[0]]).then_some(())).await;
        let plugin = node.connect().await;
        let refused = plugin.prepare(&node.allocated("mine", GPUS[0])).await.unwrap_err();
        assert!(refused.contains("is used by pods that asked for nvidia.com/gpu"), "{api}: {refused}");
        let other = node.allocated("other", GPUS[1]);
        plugin.prepare(&other).await.unwrap();
        plugin.unprepare(&other).await.unwrap();
    }

    // The kubelet starts its container again only while somebody serves the resource; new ones get nothing of it.
    node.wait("that", |_| (manager.registrations().len() == 3).then_some(())).await;
    healthy(&node, &manager, GPU, 0).await;
    let refused = manager.allocate(GPU, &allocated.ids).await.unwrap_err();
    assert!(refused.contains("is not offered on this node any more"), "{refused}");

    manager.free(GPU, &allocated.ids);
    node.wait("no taint", |node| lent(node).is_empty().then_some(())).await;
    node.wait("nothing is left of it", |node| node.log().contains("no longer offered").then_some(())).await;
    node.connect().await.prepare(&node.allocated("mine", GPUS[0])).await.unwrap();
}

/// Another device plugin, such as NVIDIA's own, has served pods, and does so until it is removed.
#[tokio::test]
async fn what_pods_got_of_another_device_plugin_is_no_claims_either() {
    let (node, manager) = node_with(&["--api", "dra"]).await;
    let uuid = |device: &serde_json::Value| device["attributes"]["uuid"]["string"].as_str().map(str::to_owned);
    let all: Vec<_> = node.devices().iter().filter_map(uuid).collect();
    node.kubelet().pod_resources().allocatable(GPU, &all);
    manager.hold(GPU, &all[..1]);
    node.wait("one taint", |node| (lent(node) == [GPUS[0]]).then_some(())).await;
    let plugin = node.connect().await;
    plugin.prepare(&node.allocated("mine", GPUS[0])).await.unwrap_err();
    plugin.prepare(&node.allocated("other", GPUS[1])).await.unwrap();
    assert!(manager.registrations().is_empty(), "the resource is the other's");

    node.kubelet().pod_resources().allocatable(GPU, &[]);
    let registered = |manager: &testkit::kubelet::DeviceManager| manager.registrations().len() == 1;
    node.wait("somebody who serves it", |_| registered(&manager).then_some(())).await;
    manager.free(GPU, &all[..1]);
    node.wait("no taint", |node| lent(node).is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_node_goes_over_device_by_device() {
    let to_claims = format!("{}=dra,0000:43:00.0=both", GPUS[0]);
    let flags = ["--api", "device-plugin", "--device-api", &to_claims];
    let (mut node, manager) = node_with(&["--api", "device-plugin"]).await;
    let all = healthy(&node, &manager, GPU, 8).await;
    let allocated = manager.allocate(GPU, &all[..2]).await.unwrap();
    replace(&mut node, &flags).await;
    node.wait_for_devices("two of them", |devices| devices.len() == 2).await;
    node.wait("taints of both that pods have", |node| (lent(node) == GPUS[..2]).then_some(())).await;
    assert_eq!(healthy(&node, &manager, GPU, 7).await, all[1..]);

    let plugin = node.connect().await;
    let claim = node.allocated("mine", GPUS[0]);
    plugin.prepare(&claim).await.unwrap_err();
    manager.free(GPU, &allocated.ids);
    node.wait("no taint", |node| lent(node).is_empty().then_some(())).await;
    plugin.prepare(&claim).await.unwrap();

    // And back: the claim keeps it.
    replace(&mut node, &["--api", "device-plugin"]).await;
    healthy(&node, &manager, GPU, 7).await;
    assert_eq!(manager.devices(GPU).len(), 8);
    node.connect().await.unprepare(&claim).await.unwrap();
    healthy(&node, &manager, GPU, 8).await;
    node.wait_for_devices("nothing for claims", |devices| devices.is_empty()).await;
}
