//! The health streams, whose content ends up in the status of pods.

use std::collections::BTreeMap;

use tessera_kubelet_api::{health_v1, health_v1alpha1};
use testkit::{GPUS, PATIENCE};
use tonic::Streaming;

use crate::node;

/// What one report says: device, health, message.
type Report = BTreeMap<String, (i32, String)>;

/// Reads either version's stream until a report is as wanted.
macro_rules! reader {
    ($name:ident, $api:ident) => {
        async fn $name(
            stream: &mut Streaming<$api::NodeWatchResourcesResponse>,
            wanted: impl Fn(&Report) -> bool,
        ) -> Report {
            let reading = async {
                loop {
                    let response = stream.message().await.unwrap().unwrap();
                    let mut report = Report::new();
                    for device in response.devices {
                        let identifier = device.device.unwrap();
                        assert_eq!(identifier.pool_name, "node-1/gpu.nvidia.com");
                        assert!(device.last_updated_time > 1_700_000_000 && device.health_check_timeout_seconds > 10);
                        report.insert(identifier.device_name, (device.health, device.message));
                    }
                    if wanted(&report) {
                        return report;
                    }
                }
            };
            tokio::time::timeout(PATIENCE, reading).await.expect("a report as wanted")
        }
    };
}

reader!(until_v1, health_v1);
reader!(until_v1alpha1, health_v1alpha1);

const HEALTHY: i32 = health_v1::HealthStatus::Healthy as i32;
const UNHEALTHY: i32 = health_v1::HealthStatus::Unhealthy as i32;

fn all_healthy(report: &Report) -> bool {
    report.len() == 8 && report.values().all(|(health, _)| *health == HEALTHY)
}

#[tokio::test]
async fn both_streams_follow_the_hardware() {
    let (mut node, plugin) = node().await;
    let (mut new, mut old) = (plugin.health().await, plugin.health_v1alpha1().await);
    until_v1(&mut new, all_healthy).await;
    until_v1alpha1(&mut old, all_healthy).await;

    node.hardware("set 3 lost=true");
    let one_lost = |report: &Report| report[GPUS[3]].0 == UNHEALTHY;
    let report = until_v1(&mut new, one_lost).await;
    assert_eq!(report.values().filter(|(health, _)| *health == HEALTHY).count(), 7);
    assert!(!report[GPUS[3]].1.is_empty(), "a message says why");
    assert_eq!(until_v1alpha1(&mut old, one_lost).await, report);

    node.hardware("set 3 lost=false");
    until_v1(&mut new, all_healthy).await;
    until_v1alpha1(&mut old, all_healthy).await;

    // The streams end with the agent, and do not hold it up.
    let (ended, _) = tokio::join!(node.stop(), async {
        while let Ok(Some(_)) = new.message().await {}
        while let Ok(Some(_)) = old.message().await {}
    });
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test]
async fn a_late_listener_is_told_everything_in_the_first_report() {
    let (node, plugin) = node().await;
    node.hardware("set 3 lost=true");
    node.wait_for_devices("the taint", |devices| devices.iter().any(|device| !device["taints"].is_null())).await;
    let mut stream = plugin.health().await;
    let first = tokio::time::timeout(PATIENCE, stream.message()).await.expect("a report").unwrap().unwrap();
    assert_eq!(first.devices.len(), 8);
}

#[tokio::test]
async fn a_listener_that_does_not_read_holds_up_nobody() {
    let (node, plugin) = node().await;
    let _unread = plugin.health().await;
    let mut read = plugin.health().await;
    for _ in 0..3 {
        node.hardware("set 3 lost=true");
        until_v1(&mut read, |report| report[GPUS[3]].0 == UNHEALTHY).await;
        node.hardware("set 3 lost=false");
        until_v1(&mut read, all_healthy).await;
    }
}
