//! An API server that is away.

use std::time::{Duration, Instant};

use testkit::{GPUS, Node};

use crate::node;

/// What has to be true while the server is away for this long, and after.
async fn survive(away: Duration) {
    let (mut node, plugin) = node().await;
    let known = node.allocated("known", GPUS[0]);
    let answer = plugin.prepare(&known).await.unwrap();
    node.hardware("set 5 lost=true");
    let tainted = |node: &Node| node.devices().iter().any(|device| !device["taints"].is_null()).then_some(());
    node.wait("the taint", tainted).await;

    node.api.go_away();
    let since = Instant::now();
    node.hardware("set 5 lost=false");
    let unknown = node.allocated("unknown", GPUS[1]);
    while since.elapsed() < away {
        assert_eq!(plugin.prepare(&known).await.unwrap(), answer);
        let refusal = plugin.prepare(&unknown).await.unwrap_err();
        // An error, and not that nobody answered: nobody waited for an answer.
        assert!(refusal.contains("cannot be read from the API server") && refusal.len() < 256, "{refusal}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    node.api.come_back();

    plugin.prepare(&unknown).await.unwrap();
    let mended = |node: &Node| node.devices().iter().all(|device| device["taints"].is_null()).then_some(());
    node.wait("no taint", mended).await;
    node.wait("/readyz", |node| node.http("/readyz").filter(|(status, _)| *status == 200)).await;
}

#[tokio::test]
async fn a_few_seconds_are_survived() {
    survive(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_minute_is_survived() {
    survive(Duration::from_secs(60)).await;
}

#[tokio::test]
async fn a_start_without_a_server_serves_what_is_known() {
    let (mut node, plugin) = node().await;
    let claim = node.allocated("known", GPUS[0]);
    let answer = plugin.prepare(&claim).await.unwrap();
    node.kill().await;
    node.api.go_away();
    node.start_agent(&[]);
    let plugin = node.kubelet().registration(2, testkit::PATIENCE).await;
    let plugin = testkit::Plugin::connect(std::path::Path::new(&plugin.info.endpoint)).await;
    assert_eq!(plugin.prepare(&claim).await.unwrap(), answer);
    plugin.unprepare(&claim).await.unwrap();
    node.api.come_back();
    node.wait("/readyz", |node| node.http("/readyz").filter(|(status, _)| *status == 200)).await;
}
