//! What pods have by count is on disk before they do: no agent gives it to another one, whatever the kubelet has written.

use std::fs;
use std::path::Path;

use testkit::kubelet::{Settings, Version};
use testkit::{Agent, Claim, GPUS};

use super::*;

const FLAGS: [&str; 2] = ["--api", "both"];

fn loans(node: &Node) -> PathBuf {
    node.state_dir().join(Claim::DRIVER).join("loans")
}

/// The pod waits for another device plugin: the kubelet tells of it nowhere.
#[tokio::test]
async fn what_one_agent_has_granted_is_refused_by_the_other() {
    let mut node = Node::new(AGENT, "dgx-h100");
    node.start_kubelet_as(Settings { answer: Answer::Confirm, ..Settings::of(Version::V1_37) });
    let manager = DeviceManager::start(&node.kubelet_dir());
    node.start_agent(&[&["--instance", "old"], &FLAGS[..]].concat());
    node.wait("the agent", |node| node.ready_after(0)).await;
    let old = node.connect().await;
    let ids = healthy(&node, &manager, GPU, 8).await;

    let more = ["--instance", "new"].into_iter().chain(FLAGS).map(str::to_owned);
    let arguments: Vec<_> = node.arguments().into_iter().chain(more).collect();
    let _new = Agent::start(Path::new(AGENT), &arguments, &node.path("new.log"));
    node.wait("both", |node| (node.kubelet().registrations().len() == 2).then_some(())).await;
    node.wait("both device plugins", |_| (manager.registrations().len() == 2).then_some(())).await;
    healthy(&node, &manager, GPU, 8).await;

    manager.ask(GPU, &ids[1..2]).await.unwrap();
    let refused = old.prepare(&node.allocated("training", GPUS[1])).await.unwrap_err();
    assert!(refused.contains("is used by pods that asked for nvidia.com/gpu"), "{refused}");
    old.prepare(&node.allocated("other", GPUS[2])).await.unwrap();
}

#[tokio::test]
async fn an_agent_that_is_killed_right_after_its_answer_has_kept_it() {
    let (mut node, manager) = node_with(&FLAGS).await;
    let ids = healthy(&node, &manager, GPU, 8).await;
    manager.ask(GPU, &ids[1..2]).await.unwrap();
    node.kill().await;
    start_again(&mut node, &FLAGS).await;
    let (plugin, claim) = (node.connect().await, node.allocated("training", GPUS[1]));
    let refused = plugin.prepare(&claim).await.unwrap_err();
    assert!(refused.contains("is used by pods that asked for nvidia.com/gpu"), "{refused}");

    // The pod runs, and ends.
    manager.hold(GPU, &ids[1..2]);
    node.wait("that it is heard", |node| fs::read_to_string(loans(node)).ok()?.contains("heard").then_some(())).await;
    manager.free(GPU, &ids[1..2]);
    node.wait("no taint", |node| lent(node).is_empty().then_some(())).await;
    plugin.prepare(&claim).await.unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_told_and_made_anew_of_what_the_kubelet_tells() {
    for damaged in ["", "damaged", "tessera-loans/2 crc32:00000000\n{}"] {
        let (mut node, manager) = node_with(&FLAGS).await;
        let ids = healthy(&node, &manager, GPU, 8).await;
        manager.allocate(GPU, &ids[1..2]).await.unwrap();
        node.kill().await;
        fs::write(loans(&node), damaged).unwrap();
        start_again(&mut node, &FLAGS).await;
        let told = |node: &Node| node.api.events().into_iter().find(|(reason, _)| reason == "LoansSetAside");
        let (_, note) = node.wait("an event", told).await;
        assert!(note.contains("loans.unreadable-loans"), "{note}");
        let refused = node.connect().await.prepare(&node.allocated("training", GPUS[1])).await.unwrap_err();
        assert!(refused.contains("is used by pods that asked for nvidia.com/gpu"), "{refused}");
        assert!(fs::read_to_string(loans(&node)).unwrap().contains(&ids[1]), "{damaged:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_written_is_not_granted() {
    let (node, manager) = node_with(&FLAGS).await;
    let ids = healthy(&node, &manager, GPU, 8).await;
    fs::create_dir(loans(&node).with_extension("tmp")).unwrap();
    let refused = manager.ask(GPU, &ids[1..2]).await.unwrap_err();
    assert!(refused.contains("the ledger cannot be read or written") && refused.len() < 256, "{refused}");
    let plugin = node.connect().await;
    plugin.prepare(&node.allocated("training", GPUS[1])).await.unwrap();

    // What the kubelet tells of is known all the same.
    manager.hold(GPU, &ids[2..3]);
    node.wait("a taint", |node| (lent(node) == [GPUS[2]]).then_some(())).await;
    let refused = plugin.prepare(&node.allocated("other", GPUS[2])).await.unwrap_err();
    assert!(refused.contains("is used by pods that asked for nvidia.com/gpu"), "{refused}");
    assert!(!loans(&node).exists());
    fs::remove_dir(loans(&node).with_extension("tmp")).unwrap();
    node.wait("the file", |node| fs::read_to_string(loans(node)).ok()?.contains(&ids[2]).then_some(())).await;
}
