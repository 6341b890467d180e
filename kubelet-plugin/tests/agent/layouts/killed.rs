//! The agent dies at every change that a layout makes to files and partitions.

use std::collections::BTreeSet;

use testkit::{GPUS, Node};

use super::{FLAGS, all_ready, desired, instances, kept, partitions, start, want};
use crate::AGENT;

/// At each step of the driver's work that takes its time.
#[tokio::test]
async fn in_the_midst_of_a_call_of_the_driver() {
    let mut node = Node::new(AGENT, "dgx-h100");
    node.start_kubelet(testkit::kubelet::Answer::Confirm);
    start(&mut node, FLAGS).await;
    let layouts = [partitions(&[("3g.40gb", 2)]), partitions(&[("2g.20gb", 3)])];
    let expected = [BTreeSet::from([(9, 0), (9, 4)]), BTreeSet::from([(14, 0), (14, 2), (14, 4)])];
    for (turn, function) in [
        "nvmlDeviceSetMigMode",
        "nvmlDeviceCreateGpuInstanceWithPlacement",
        "nvmlGpuInstanceCreateComputeInstance",
        "nvmlComputeInstanceDestroy",
        "nvmlGpuInstanceDestroy",
    ]
    .into_iter()
    .enumerate()
    {
        node.hardware(&format!("set 0 latency_ms=60000 function={function} times=1"));
        node.hardware("record on");
        want(&node, &[desired(GPUS[0], layouts[turn % 2].clone())]);
        let is_asked = |node: &Node| node.machine().calls().unwrap().iter().any(|call| call.function == function);
        node.wait(function, |node| is_asked(node).then_some(())).await;
        node.kill().await;
        node.hardware("record off");
        node.hardware("set 0 latency_ms=0");
        start(&mut node, FLAGS).await;
        all_ready(&node).await;
        assert_eq!(instances(&node, 0), expected[turn % 2], "{function}");
    }
    want(&node, &[]);
    all_ready(&node).await;
    assert_eq!((instances(&node, 0), kept(&node)), (BTreeSet::new(), Vec::new()));
    assert!(!node.machine().hardware().unwrap().gpus[0].mig.mode);
}

/// Before each change of a file of the agent's, and before each that the driver makes to the hardware. Which there are is what
/// the kernel sees.
#[cfg(target_arch = "x86_64")]
mod at_every_change {
    use interruptions::{Interruption, Watch};
    use serde_json::{Value, json};
    use simulated_hardware::Profile;
    use testkit::kubelet::Answer;

    use super::*;
    use crate::layouts::answered;

    /// A node with the first two GPUs of a machine.
    async fn two_of(machine: &str) -> Node {
        let mut node = Node::without_driver(AGENT);
        let mut profile = Profile::named(machine).unwrap();
        profile.gpus.truncate(2);
        node.install_driver(&profile);
        node.start_kubelet(Answer::Confirm);
        start(&mut node, FLAGS).await;
        node
    }

    /// One of two layouts after the other is wanted of a device, until nothing is left to be interrupted; says which points
    /// there are. What there is after each is looked at by `check`, which is told which of both it is.
    async fn killed(node: &mut Node, device: &str, layouts: [Value; 2], check: impl Fn(&Node, usize)) -> Vec<String> {
        let mut at = 0;
        loop {
            let directories = [node.state_dir(), node.root().join("hardware.json")];
            let watch = Watch::start(node.agent().id(), &directories, Interruption::Kill { at }).unwrap();
            let wanted = &layouts[at % 2];
            want(node, &[desired(device, wanted.clone())]);
            let is_done = |node: &Node| {
                let answer = answered(node)?.remove(device)?;
                (answer["state"] == "Ready" && answer["layout"] == *wanted).then_some(())
            };
            node.wait("a change or an end", |node| if watch.has_ended() { Some(()) } else { is_done(node) }).await;
            let seen = watch.end().unwrap();
            if let Some(interrupted) = seen.interrupted {
                println!("killed before {}", node.anonymous(&seen.points[interrupted].to_string()));
                node.ended().await;
                start(node, FLAGS).await;
                node.wait("the layout", is_done).await;
            }
            check(node, at % 2);
            assert_eq!(kept(node), [format!("{device}.layout")]);
            if seen.interrupted.is_none() {
                return seen.points.iter().map(|point| node.anonymous(&point.to_string())).collect();
            }
            at += 1;
        }
    }

    fn assert_among(points: &[String], files: &[&str]) {
        println!("every point: {points:#?}");
        for file in files {
            assert!(points.iter().any(|point| point.contains(file)), "{file} is not among {points:#?}");
        }
    }

    #[tokio::test]
    async fn between_partitions() {
        let mut node = two_of("dgx-h100").await;
        let layouts = ["3g.40gb", "2g.20gb"].map(|profile| partitions(&[(profile, 1)]));
        let check = |node: &Node, layout: usize| {
            let there: Vec<_> = instances(node, 0).into_iter().map(|(shape, _)| shape).collect();
            assert_eq!(there, [[9, 14][layout]]);
        };
        assert_among(&killed(&mut node, GPUS[0], layouts, check).await, &[".layout", "hardware.json"]);
    }

    #[tokio::test]
    async fn between_partitions_and_a_domain() {
        let mut node = two_of("gb200").await;
        let layouts = [json!({"domain": {}}), partitions(&[("1g.23gb", 1)])];
        let check = |node: &Node, layout: usize| assert_eq!(instances(node, 0).len(), layout);
        assert_among(&killed(&mut node, "gpu-0008-01-00-0", layouts, check).await, &[".layout", "hardware.json"]);
    }
}
