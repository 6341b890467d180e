//! What people and machines ask over HTTP.

use testkit::kubelet::Answer;
use testkit::{GPUS, Node};

use crate::{AGENT, node};

#[tokio::test]
async fn ready_means_registered_and_published() {
    let mut node = Node::new(AGENT, "dgx-h100");
    node.start_agent(&[]);
    let told = |registered| {
        format!(
            "gpu.nvidia.com: registered with the kubelet: {registered}, slices published: true\n\
             tpu.google.com: not served, none of its hardware is on this node\n"
        )
    };
    let published = |node: &Node| node.http("/readyz").filter(|(_, body)| body.contains("slices published: true"));
    let (status, body) = node.wait("published", published).await;
    assert_eq!((status, body), (503, told(false)));
    assert_eq!(node.http("/healthz"), Some((200, "ok\n".to_owned())));
    node.start_kubelet(Answer::Confirm);
    let (_, body) = node.wait("ready", |node| node.http("/readyz").filter(|(status, _)| *status == 200)).await;
    assert_eq!(body, told(true));
}

#[tokio::test]
async fn metrics_tell_what_happened() {
    let (node, plugin) = node().await;
    let claim = node.allocated("training", GPUS[0]);
    plugin.prepare(&claim).await.unwrap();
    plugin.prepare(&node.allocated("second", GPUS[0])).await.unwrap_err();
    node.hardware("set 3 lost=true");
    node.wait_for_devices("the taint", |devices| devices.iter().any(|device| !device["taints"].is_null())).await;
    // The write is counted once it is answered.
    let written = |node: &Node| node.http("/metrics").filter(|(_, metrics)| metrics.contains("verb=\"update\""));
    let (status, metrics) = node.wait("the write of the taint", written).await;
    assert_eq!(status, 200);
    let driver = "driver=\"gpu.nvidia.com\"";
    for line in [
        format!("tessera_claim_operation_seconds_count{{{driver},operation=\"Prepare\",result=\"Success\"}} 1"),
        format!("tessera_claim_operation_seconds_count{{{driver},operation=\"Prepare\",result=\"Error\"}} 1"),
        format!("tessera_devices{{{driver},condition=\"Ready\"}} 7"),
        format!("tessera_devices{{{driver},condition=\"Lost\"}} 1"),
        format!("tessera_claims_prepared{{{driver}}} 1"),
        format!("tessera_slice_writes_total{{{driver},verb=\"create\",result=\"Success\"}} 1"),
        format!("tessera_slice_writes_total{{{driver},verb=\"update\",result=\"Success\"}} 1"),
        format!("tessera_discovery_failures_total{{{driver}}} 0"),
        format!("tessera_publish_stale_seconds{{{driver}}} 0.0"),
        format!("tessera_driver_ready{{{driver}}} 1"),
        "# EOF".to_owned(),
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    let types: Vec<_> =
        metrics.lines().filter(|line| line.starts_with("# TYPE") || line.starts_with("# UNIT")).collect();
    insta::assert_json_snapshot!(types);
    assert_eq!(node.http("/nowhere").unwrap().0, 404);
}
