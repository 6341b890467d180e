//! While one agent replaces the other, one of them changes layouts, and the other one knows of it.

use std::path::Path;

use serde_json::Value;
use testkit::kubelet::{Answer, Settings, Version};
use testkit::{Agent, GPUS, Node};

use super::{FLAGS, answered, desired, instances, published, reaches, seven, two, want};
use crate::AGENT;

#[tokio::test]
async fn the_newer_one_takes_over() {
    let mut node = Node::new(AGENT, "dgx-h100");
    node.start_kubelet_as(Settings { answer: Answer::Confirm, ..Settings::of(Version::V1_37) });
    node.start_agent(&[&["--instance", "old"], FLAGS].concat());
    node.wait("the agent", |node| node.ready_after(0)).await;
    want(&node, &[desired(GPUS[0], two())]);
    reaches(&node, GPUS[0], "Ready").await;

    let more = ["--instance", "new"].iter().chain(FLAGS).map(|flag| (*flag).to_owned());
    let arguments: Vec<_> = node.arguments().into_iter().chain(more).collect();
    let mut new = Agent::start(Path::new(AGENT), &arguments, &node.path("new.log"));
    node.wait("both", |node| (node.kubelet().registrations().len() == 2).then_some(())).await;
    let layout = |wanted: Value| {
        move |node: &Node| {
            let answer = answered(node)?.remove(GPUS[0])?;
            (answer["state"] == "Ready" && answer["layout"] == wanted).then_some(())
        }
    };
    want(&node, &[desired(GPUS[0], seven())]);
    node.wait("the next layout", layout(seven())).await;
    assert_eq!((instances(&node, 0).len(), published(&node, GPUS[0]).len()), (7, 7));
    let applied = |log: String| log.matches("is offered as 7x1g.10gb").count();
    assert_eq!(applied(node.agent().log()) + applied(new.log()), 1, "by one of them");

    node.stop().await;
    want(&node, &[desired(GPUS[0], two())]);
    node.wait("the last layout", layout(two())).await;
    assert_eq!(instances(&node, 0).len(), 2);
    assert!(new.log().contains("is offered as 3g.40gb, 4g.40gb") && new.ended().is_none());
}
