//! What happens to one driver happens to no other.

use std::time::Duration;

use testkit::Node;
use testkit::kubelet::Answer;

use super::{CHIPS, GPU, GPUS, TPU, names, node_of_both, of_both, started, wait_for_line};

/// A claim of one driver is prepared and undone, whatever the other one is doing.
async fn serves(node: &Node, driver: &str, number: usize) {
    let claim = of_both(node, &format!("claim-of-{driver}-{number}"), number);
    let plugin = node.plugin_of(driver).await;
    assert_eq!(plugin.prepare(&claim).await.map(|devices| devices.len()), Ok(1), "{driver}");
    plugin.unprepare(&claim).await.unwrap();
}

async fn starts_under(node: &mut Node, answer: Answer) {
    node.start_kubelet(answer);
    node.start_agent(&[]);
}

#[tokio::test]
async fn hardware_that_hangs_at_the_start_holds_up_no_other() {
    let mut node = node_of_both();
    node.hardware("set latency_ms=60000 function=nvmlDeviceGetCount_v2");
    starts_under(&mut node, Answer::Confirm).await;
    wait_for_line(&node, 503, "tpu.google.com: registered with the kubelet: true, slices published: true").await;
    assert!(node.api.slices().iter().all(|slice| slice["spec"]["driver"] == TPU));
    serves(&node, TPU, 0).await;
    // The GPUs' driver is registered without a look: claims that it knows can be undone.
    wait_for_line(&node, 503, "gpu.nvidia.com: registered with the kubelet: true, slices published: false").await;
    node.hardware("set latency_ms=0");
}

#[tokio::test]
async fn hardware_that_hangs_while_it_is_served_holds_up_no_other() {
    let node = started().await;
    node.hardware("set latency_ms=60000 function=nvmlDeviceGetCount_v2");
    tokio::time::sleep(Duration::from_millis(300)).await;
    serves(&node, TPU, 0).await;
    // What was known of the GPUs is good for a claim, and the chips are still looked at.
    serves(&node, GPU, 0).await;
    node.hardware("set tpu3 present=false");
    node.wait("three chips", |node| (names(node, TPU).len() == 3).then_some(())).await;
    node.hardware("set latency_ms=0");
}

#[tokio::test]
async fn a_refused_registration_is_that_drivers_alone() {
    for (refused, other) in [(GPU, TPU), (TPU, GPU)] {
        let mut node = node_of_both();
        let reason = "no room".to_owned();
        starts_under(&mut node, Answer::RefuseDriver { driver: refused.to_owned(), reason }).await;
        wait_for_line(&node, 503, &format!("{other}: registered with the kubelet: true, slices published: true")).await;
        wait_for_line(&node, 503, &format!("{refused}: registered with the kubelet: false, slices published: true"))
            .await;
        serves(&node, other, 0).await;
        assert!(node.agent().ended().is_none());
    }
}

#[tokio::test]
async fn a_refused_pool_is_that_drivers_alone() {
    for (refused, other) in [(GPU, TPU), (TPU, GPU)] {
        let mut node = node_of_both();
        node.api.refuse_slices_of(refused);
        starts_under(&mut node, Answer::Confirm).await;
        wait_for_line(&node, 503, &format!("{other}: registered with the kubelet: true, slices published: true")).await;
        wait_for_line(&node, 503, &format!("{refused}: registered with the kubelet: true, slices published: false"))
            .await;
        let told = |node: &Node| node.api.events().into_iter().find(|(reason, _)| reason == "ResourceSlicesRefused");
        let (_, note) = node.wait("the event", told).await;
        assert!(
            note.starts_with(&format!("{refused}: the API server refuses the slices of pool node-1/{refused}:")),
            "{note}"
        );
        node.api.fail_no_more();
        node.wait("ready", |node| node.http("/readyz").filter(|(status, _)| *status == 200)).await;
    }
}

#[tokio::test]
async fn a_place_that_one_driver_cannot_use_is_told_and_tried_again() {
    for place in
        ["kubelet/plugins/tpu.google.com/dra@kubelet.sock", "kubelet/plugins_registry/tpu.google.com-reg@kubelet.sock"]
    {
        let mut node = node_of_both();
        let file = node.path(place);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "a file").unwrap();
        starts_under(&mut node, Answer::Confirm).await;
        wait_for_line(&node, 503, "gpu.nvidia.com: registered with the kubelet: true, slices published: true").await;
        wait_for_line(&node, 503, "tpu.google.com: cannot be served, tried again: ").await;
        let told = |node: &Node| node.api.events().into_iter().find(|(reason, _)| reason == "DriverNotServed");
        let (_, note) = node.wait("the event", told).await;
        assert!(note.starts_with("tpu.google.com: ") && note.contains("exists and is no socket; remove it"), "{note}");
        let gpu = node.plugin_of(GPU).await;
        gpu.prepare(&node.allocated("training", GPUS[0])).await.unwrap();
        std::fs::remove_file(&file).unwrap();
        node.wait("ready", |node| node.http("/readyz").filter(|(status, _)| *status == 200)).await;
        serves(&node, TPU, 1).await;
        assert_eq!(node.api.events().iter().filter(|(reason, _)| reason == "DriverNotServed").count(), 1, "said once");
    }
}

/// With nothing left to serve it is better to be started again, as by Kubernetes, than to go on for nothing.
#[tokio::test]
async fn an_agent_none_of_whose_drivers_can_be_served_ends() {
    let mut node = node_of_both();
    for driver in [GPU, TPU] {
        std::fs::write(node.state_dir().join(driver), "a file").unwrap();
    }
    starts_under(&mut node, Answer::Confirm).await;
    assert_eq!(node.ended().await.code(), Some(1));
    assert!(node.log().lines().last().unwrap_or_default().contains("--state-dir: "), "{}", node.log());
}

/// A driver that comes later finds the others' half-written files in the directory that they share, and leaves them.
#[tokio::test]
async fn a_driver_that_comes_later_disturbs_no_other() {
    let mut node = node_of_both();
    let all = |node: &Node, present: bool| {
        (0..4).for_each(|chip| node.hardware(&format!("set tpu{chip} present={present}")));
    };
    all(&node, false);
    node.start().await;
    wait_for_line(&node, 200, "tpu.google.com: not served").await;
    let unfinished = node.cdi_dir().join(".tessera-1-0.tmp");
    std::fs::write(&unfinished, "half").unwrap();
    let claim = node.allocated("training", GPUS[0]);
    node.plugin_of(GPU).await.prepare(&claim).await.unwrap();
    all(&node, true);
    // They come one after the other, and the first of them makes the driver ready.
    node.wait("every chip", |node| (names(node, TPU) == CHIPS).then_some(())).await;
    wait_for_line(&node, 200, "tpu.google.com: registered with the kubelet: true, slices published: true").await;
    assert!(unfinished.exists() && node.spec(&claim).is_some());
    serves(&node, TPU, 1).await;
    // All of them gone: its pool is empty, and it is there to undo what there may be.
    all(&node, false);
    node.wait("no chip", |node| names(node, TPU).is_empty().then_some(())).await;
    wait_for_line(&node, 200, "tpu.google.com: registered with the kubelet: true, slices published: true").await;
}
