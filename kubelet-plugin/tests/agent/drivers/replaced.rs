//! An agent that serves one driver gives way to one that serves two, and back.

use std::path::Path;

use testkit::{Agent, Node};

use super::{GPU, GPUS, TPU, assert_nothing_left, names, node_of_both, of_both};
use crate::AGENT;

/// Starts an agent with other flags in the place of the one that runs, and waits until it is ready.
async fn replace(node: &mut Node, kill: bool, flags: &[&str]) {
    let registered = node.kubelet().registrations().len();
    if kill {
        node.kill().await
    } else {
        node.stop().await
    };
    node.start_agent(flags);
    node.wait("ready", |node| node.ready_after(registered)).await;
}

const ONE: [&str; 2] = ["--drivers", "nvidia"];

#[tokio::test]
async fn one_driver_becomes_two_and_two_become_one() {
    for kill in [false, true] {
        let mut node = node_of_both();
        node.start_kubelet(testkit::kubelet::Answer::Confirm);
        node.start_agent(&ONE);
        node.wait("ready", |node| node.ready_after(0)).await;
        let before = node.allocated("before", GPUS[1]);
        let answer = node.plugin_of(GPU).await.prepare(&before).await.unwrap();

        replace(&mut node, kill, &[]).await;
        assert_eq!(node.plugin_of(GPU).await.prepare(&before).await, Ok(answer.clone()));
        let both = of_both(&node, "both", 0);
        let of_gpu = node.plugin_of(GPU).await.prepare(&both).await.unwrap();
        let of_tpu = node.plugin_of(TPU).await.prepare(&both).await.unwrap();

        // What it holds of the other driver is left as it is: containers use it.
        replace(&mut node, kill, &ONE).await;
        assert_eq!(node.specs().len(), 3, "{:?}", node.specs());
        assert_eq!(node.plugin_of(GPU).await.prepare(&both).await, Ok(of_gpu));
        node.plugin_of(GPU).await.unprepare(&before).await.unwrap();

        replace(&mut node, kill, &[]).await;
        assert_eq!(node.plugin_of(TPU).await.prepare(&both).await, Ok(of_tpu));
        for driver in [GPU, TPU] {
            node.plugin_of(driver).await.unprepare(&both).await.unwrap();
        }
        assert_nothing_left(&node);
        assert_eq!(node.log().matches("RecordSetAside").count(), 0);
    }
}

/// As when a DaemonSet replaces its pods: for a while both are alive. Which of them publishes is each driver's own matter.
#[tokio::test]
async fn agents_of_one_and_of_two_drivers_live_side_by_side() {
    let mut node = node_of_both();
    node.start_kubelet(testkit::kubelet::Answer::Confirm);
    node.start_agent(&[]);
    node.wait("ready", |node| node.ready_after(1)).await;
    let both = of_both(&node, "both", 0);
    let (gpu, tpu) = (node.plugin_of(GPU).await, node.plugin_of(TPU).await);
    let answer = gpu.prepare(&both).await.unwrap();
    tpu.prepare(&both).await.unwrap();

    let flags = ["--instance", "other", "--drivers", "nvidia"].map(str::to_owned).to_vec();
    let other = Agent::start(Path::new(AGENT), &[node.arguments(), flags].concat(), &node.path("other.log"));
    node.wait("the other one", |node| (node.kubelet().endpoints(GPU).len() == 2).then_some(())).await;
    let published = |_: &Node| other.log().contains("the slices are published").then_some(());
    node.wait("its slices", published).await;
    assert_eq!(node.plugin_of(GPU).await.prepare(&both).await, Ok(answer));
    // The other one publishes GPUs from now on, and this one its chips.
    node.hardware("set tpu3 driver=none");
    node.hardware("set 1 present=false");
    let seen = |node: &Node| (names(node, GPU).len(), names(node, TPU).len());
    node.wait("one GPU", |node| (seen(node).0 == 1).then_some(())).await;
    let lost = |node: &Node| node.devices_of(TPU).iter().any(|device| !device["taints"].is_null()).then_some(());
    node.wait("a chip without a driver", lost).await;
    node.plugin_of(GPU).await.unprepare(&both).await.unwrap();
    tpu.unprepare(&both).await.unwrap();
    assert_nothing_left(&node);
    drop(other);
}

/// The agent is started anew where all chips were pulled out: what a claim holds is still there, as lost.
#[tokio::test]
async fn what_is_held_of_hardware_that_is_gone_stays_published() {
    let mut node = super::started().await;
    let both = of_both(&node, "both", 0);
    node.plugin_of(TPU).await.prepare(&both).await.unwrap();
    node.kill().await;
    (0..4).for_each(|chip| node.hardware(&format!("set tpu{chip} present=false")));
    node.api.wipe_slices(Node::NAME);
    node.start().await;
    let devices = node.devices_of(TPU);
    assert_eq!((devices.len(), &devices[0]["taints"][0]["key"]), (1, &"tessera.dev/lost".into()));
    node.plugin_of(TPU).await.unprepare(&both).await.unwrap();
    node.wait("nothing of it", |node| names(node, TPU).is_empty().then_some(())).await;
    // With nothing left to undo, the next agent has nothing to do for it.
    node.stop().await;
    node.start_agent(&[]);
    super::wait_for_line(&node, 200, "tpu.google.com: not served, none of its hardware is on this node").await;
}
