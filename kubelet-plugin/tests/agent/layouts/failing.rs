//! What cannot be done, or is refused half-way.

use serde_json::{Value, json};
use testkit::api_server::Resource;
use testkit::kubelet::Answer;
use testkit::{GPUS, Node};

use super::{
    FLAGS, all_ready, answered, desired, following, instances, kept, partitions, published, reaches, seven, start, two,
    want,
};
use crate::AGENT;
use crate::restart::of_another_boot;

#[tokio::test]
async fn what_cannot_be_is_refused_with_what_could_be() {
    let mut node = Node::new(AGENT, "mixed");
    node.start_kubelet(Answer::Confirm);
    start(&mut node, FLAGS).await;
    want(&node, &[]);
    node.wait("an answer", answered).await;
    let offered = published(&node, "gpu");
    let profiles = |answer: &Value| answer["profiles"].as_array().map_or(0, Vec::len);
    let all = answered(&node).unwrap();
    let with =
        |cut: bool| all.iter().find(|(_, answer)| (profiles(answer) > 0) == cut).map(|(name, _)| name.clone()).unwrap();
    let (can, cannot) = (with(true), with(false));
    for (device, layout, message) in [
        (&cannot, seven(), "it cannot be cut into partitions"),
        (&cannot, json!({"dynamic": {}}), "it cannot be cut into partitions"),
        (&can, partitions(&[("1g.6gb", 4)]), "before its mode is switched by a reset"),
    ] {
        want(&node, &[desired(device, layout.clone())]);
        let failed = reaches(&node, device, "Failed").await;
        let text = failed["message"].as_str().unwrap();
        assert!(text.contains(message) && text.starts_with(device.as_str()) && text.len() < 256, "{layout}: {text}");
        assert_eq!(failed["layout"], Value::Null);
        assert_eq!(published(&node, "gpu"), offered, "all is offered as before");
        want(&node, &[]);
        all_ready(&node).await;
    }
    assert_eq!(kept(&node), [""; 0]);

    node.hardware("mig 0 on");
    node.hardware("reset 0");
    want(&node, &[desired(&can, partitions(&[("9g.90gb", 1)]))]);
    let names = |node: &Node| {
        answered(node)?[&can]["message"].as_str()?.contains("no profile 9g.90gb; it has 1g.6gb").then_some(())
    };
    node.wait("the profiles that it has", names).await;
    want(&node, &[desired(&can, partitions(&[("1g.6gb", 4)]))]);
    reaches(&node, &can, "Ready").await;
    assert_eq!(instances(&node, 0).len(), 4);
}

/// Each call of the driver that a change makes is refused, on the way from one layout to another.
#[tokio::test]
async fn a_change_that_fails_half_way_is_undone() {
    let (node, _) = following().await;
    let named = |attempt: u32, layout: Value| {
        let mut device = desired(GPUS[0], layout);
        device["attempt"] = json!(attempt);
        device
    };
    want(&node, &[named(0, two())]);
    reaches(&node, GPUS[0], "Ready").await;
    let before = instances(&node, 0);
    for (attempt, (function, from)) in [
        ("nvmlDeviceCreateGpuInstanceWithPlacement", 1),
        ("nvmlDeviceCreateGpuInstanceWithPlacement", 4),
        ("nvmlGpuInstanceCreateComputeInstance", 3),
        ("nvmlComputeInstanceDestroy", 1),
        ("nvmlGpuInstanceDestroy", 2),
    ]
    .into_iter()
    .enumerate()
    {
        node.hardware(&format!("set 0 fail={function}:UNKNOWN from={from} times=1"));
        want(&node, &[named(u32::try_from(attempt).unwrap() + 1, seven())]);
        let failed = reaches(&node, GPUS[0], "Failed").await;
        node.hardware("set fail=none");
        let text = failed["message"].as_str().unwrap();
        assert!(text.contains(function) && text.contains("7x1g.10gb"), "{text}");
        assert_eq!(instances(&node, 0), before, "{function}");
        assert_eq!((&failed["layout"], &failed["attempt"]), (&two(), &json!(attempt + 1)));
        let free = |node: &Node| {
            let published = published(node, GPUS[0]);
            (published.len() == 2 && published.values().all(Vec::is_empty)).then_some(())
        };
        node.wait("the old layout to be offered", free).await;
    }
    want(&node, &[named(9, seven())]);
    reaches(&node, GPUS[0], "Ready").await;
    assert_eq!(instances(&node, 0).len(), 7);
    let (_, metrics) = node.http("/metrics").unwrap();
    for line in [
        "tessera_layout_changes_total{driver=\"gpu.nvidia.com\",result=\"Error\"} 5",
        "tessera_layout_devices{driver=\"gpu.nvidia.com\",state=\"Ready\"} 8",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in\n{metrics}");
    }
}

/// A partition that somebody destroyed is made again; who has the other one keeps it.
#[tokio::test]
async fn a_partition_that_vanished_is_made_again() {
    let (node, plugin) = following().await;
    want(&node, &[desired(GPUS[0], two())]);
    reaches(&node, GPUS[0], "Ready").await;
    let four = format!("{}-mig-4g40gb-5-0", GPUS[0]);
    let claim = node.allocated("four", &four);
    let answer = plugin.prepare(&claim).await.unwrap();
    let other =
        node.machine().hardware().unwrap().gpus[0].mig.gpu_instances.iter().find(|one| one.profile == 9).unwrap().id;
    node.hardware(&format!("mig 0 destroy {other}"));
    node.wait("both", |node| (instances(node, 0).len() == 2 && published(node, GPUS[0]).len() == 2).then_some(()))
        .await;
    assert_eq!(plugin.prepare(&claim).await.unwrap(), answer);
}

/// Whoever's the file was: the partitions are just what is wanted.
#[tokio::test]
async fn a_damaged_file_is_set_aside_and_the_layout_recognized() {
    let (mut node, _) = following().await;
    want(&node, &[desired(GPUS[0], two())]);
    reaches(&node, GPUS[0], "Ready").await;
    node.stop().await;
    let path = node.state_dir().join("gpu.nvidia.com").join(format!("{}.layout", GPUS[0]));
    std::fs::write(&path, "damaged").unwrap();
    node.hardware("record on");
    start(&mut node, FLAGS).await;
    reaches(&node, GPUS[0], "Ready").await;
    node.wait("a file", |_| {
        std::fs::read(&path).is_ok_and(|bytes| bytes.starts_with(b"tessera-layout/1")).then_some(())
    })
    .await;
    assert!(node.machine().calls().unwrap().iter().all(|call| !call.changed));
    assert!(node.api.events().iter().any(|(reason, _)| reason == "LayoutSetAside"));
    assert_eq!(published(&node, GPUS[0]).len(), 2);
}

/// While the API server is away the last word holds, and it is heard when it is back.
#[tokio::test]
async fn without_the_api_server_what_is_in_force_stays() {
    let (mut node, plugin) = following().await;
    want(&node, &[desired(GPUS[0], two())]);
    reaches(&node, GPUS[0], "Ready").await;
    node.api.go_away();
    node.kill().await;
    let before = instances(&node, 0);
    node.start_agent(FLAGS);
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(instances(&node, 0), before);
    node.api.come_back();
    drop(plugin);
    want(&node, &[desired(GPUS[0], json!({"whole": {}}))]);
    let whole = |node: &Node| (answered(node)?[GPUS[0]]["layout"] == json!({"whole": {}})).then_some(());
    node.wait("the next word", whole).await;
    assert_eq!(instances(&node, 0).len(), 0);
    assert!(node.api.get(Resource::NodeLayouts, "", Node::NAME).is_some());
}

/// A GPU that does not answer is told of, and goes on by itself once it does.
#[tokio::test]
async fn a_lost_device_is_told_of_and_goes_on_once_it_answers() {
    let (node, _) = following().await;
    node.hardware("set 0 fail=nvmlDeviceGetUUID:GPU_IS_LOST");
    let lost = |node: &Node| (published(node, GPUS[0])[GPUS[0]].len() == 1).then_some(());
    node.wait("a lost GPU", lost).await;
    want(&node, &[desired(GPUS[0], two()), desired(GPUS[1], two())]);
    let failed = reaches(&node, GPUS[0], "Failed").await;
    let text = failed["message"].as_str().unwrap();
    assert!(text.contains("it is lost: ") && text.contains("goes on by itself"), "{text}");
    reaches(&node, GPUS[1], "Ready").await;
    node.hardware("set fail=none");
    reaches(&node, GPUS[0], "Ready").await;
    assert_eq!(instances(&node, 0).len(), 2);
}

/// Neither the partitions nor what is known of them survives, and nobody gets the whole GPU before they are made again.
#[tokio::test]
async fn after_a_reboot_it_is_made_again() {
    let (mut node, _) = following().await;
    want(&node, &[desired(GPUS[0], two())]);
    reaches(&node, GPUS[0], "Ready").await;
    node.stop().await;
    let path = node.state_dir().join("gpu.nvidia.com").join(format!("{}.layout", GPUS[0]));
    std::fs::write(&path, of_another_boot(&std::fs::read_to_string(&path).unwrap())).unwrap();
    for instance in node.machine().hardware().unwrap().gpus[0].mig.gpu_instances.clone() {
        node.hardware(&format!("mig 0 destroy {}", instance.id));
    }
    node.hardware("mig 0 off");
    node.api.wipe_slices(Node::NAME);
    // While it starts, and while it cuts.
    node.hardware("set 0 latency_ms=1000 function=nvmlDeviceCreateGpuInstanceWithPlacement");
    start(&mut node, FLAGS).await;
    let taints = published(&node, GPUS[0]);
    assert!(taints.values().all(|taints| !taints.is_empty()), "nobody may be given it: {taints:?}");
    node.hardware("set 0 latency_ms=0");
    let both = |node: &Node| (instances(node, 0).len() == 2 && published(node, GPUS[0]).len() == 2).then_some(());
    node.wait("both", both).await;
    all_ready(&node).await;
}
