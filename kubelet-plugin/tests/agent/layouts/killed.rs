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
#[tokio::test]
async fn at_every_change() {
    use interruptions::{Interruption, Watch};

    let mut node = Node::without_driver(AGENT);
    let mut profile = simulated_hardware::Profile::named("dgx-h100").unwrap();
    profile.gpus.truncate(2);
    node.install_driver(&profile);
    node.start_kubelet(testkit::kubelet::Answer::Confirm);
    start(&mut node, FLAGS).await;
    let layouts = [("3g.40gb", 9), ("2g.20gb", 14)];
    let mut at = 0;
    let all = loop {
        let (profile, shape) = layouts[at % 2];
        let directories = [node.state_dir(), node.root().join("hardware.json")];
        let watch = Watch::start(node.agent().id(), &directories, Interruption::Kill { at }).unwrap();
        let wanted = partitions(&[(profile, 1)]);
        want(&node, &[desired(GPUS[0], wanted.clone())]);
        let is_done = |node: &Node| {
            let answer = super::answered(node)?.remove(GPUS[0])?;
            (answer["state"] == "Ready" && answer["layout"] == wanted).then_some(())
        };
        node.wait("a change or an end", |node| if watch.has_ended() { Some(()) } else { is_done(node) }).await;
        let seen = watch.end().unwrap();
        let is_killed = seen.interrupted.is_some();
        if is_killed {
            println!("killed before {}", node.anonymous(&seen.points[seen.interrupted.unwrap()].to_string()));
            node.ended().await;
            start(&mut node, FLAGS).await;
            node.wait("the layout", is_done).await;
        }
        let there: Vec<_> = instances(&node, 0).into_iter().map(|(shape, _)| shape).collect();
        assert_eq!(there, [shape]);
        assert_eq!(kept(&node), [format!("{}.layout", GPUS[0])]);
        if !is_killed {
            break seen;
        }
        at += 1;
    };
    let points: Vec<_> = all.points.iter().map(|point| node.anonymous(&point.to_string())).collect();
    println!("every point: {points:#?}");
    for file in [".layout", "hardware.json"] {
        assert!(points.iter().any(|point| point.contains(file)), "{file} is not among {points:#?}");
    }
}
