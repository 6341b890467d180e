//! What the agent puts right by itself: between its ledger, its files, the kubelet's pods and the API server.

use std::fs;
use std::path::PathBuf;

use testkit::api_server::{Fault, Resource};
use testkit::kubelet::{Answer, Listing, Pod};
use testkit::{GPUS, Node};

use crate::{AGENT, assert_nothing_left};

/// A node whose agent compares again and again, with two pods that have a claim each.
async fn node_that_compares() -> (Node, [Pod; 2], [testkit::Claim; 2]) {
    let mut node = Node::new(AGENT, "dgx-h100");
    node.start_kubelet(Answer::Confirm);
    start(&mut node).await;
    let claims = [node.allocated("training", GPUS[0]), node.allocated("other", GPUS[1])];
    let pods = [Pod::new("trainer").claim(&claims[0]), Pod::new("other").claim(&claims[1])];
    for pod in &pods {
        node.kubelet().pod_runs(pod).await;
    }
    (node, pods, claims)
}

/// The agent, registered and ready.
async fn start(node: &mut Node) {
    let known = node.kubelet().registrations().len();
    node.start_agent(&["--reconcile", "0.2"]);
    node.wait("the agent", |node| node.ready_after(known)).await;
}

/// Waits for as many comparisons as it takes to act twice over.
async fn several_rounds(node: &Node) {
    let lists = node.kubelet().pod_resources().lists();
    node.wait("four rounds", |node| (node.kubelet().pod_resources().lists() >= lists + 4).then_some(())).await;
}

async fn event(node: &Node, reason: &str) -> String {
    let find = |node: &Node| node.api.events().into_iter().find(|(found, _)| found == reason).map(|(_, note)| note);
    node.wait(reason, find).await
}

/// The kubelet lost its state: nobody will ever ask to undo the claim.
#[tokio::test]
async fn a_claim_that_is_gone_and_that_no_pod_uses_is_undone() {
    let (node, _, [claim, other]) = node_that_compares().await;
    node.kubelet().pod_resources().forget("team", "trainer");
    several_rounds(&node).await;
    assert!(node.spec(&claim).is_some(), "the API server has it still");
    node.api.delete(Resource::Claims, &claim.namespace, &claim.name);
    node.wait("the undoing", |node| node.spec(&claim).is_none().then_some(())).await;
    node.wait("its record", |node| (!node.record_path(&claim).exists()).then_some(())).await;
    assert!(event(&node, "OrphanedClaimUndone").await.contains("team/training"));
    assert!(node.spec(&other).is_some() && node.record_path(&other).exists());
    let (_, metrics) = node.http("/metrics").unwrap();
    assert!(metrics.contains(r#"reason="OrphanedClaimUndone"} 1"#), "{metrics}");
}

#[tokio::test]
async fn a_claim_that_is_gone_and_that_a_pod_still_uses_is_kept() {
    let (node, _, [claim, _]) = node_that_compares().await;
    node.api.delete(Resource::Claims, &claim.namespace, &claim.name);
    several_rounds(&node).await;
    assert!(node.spec(&claim).is_some() && node.record_path(&claim).exists());
    node.kubelet().pod_resources().forget("team", "trainer");
    node.wait("the undoing", |node| node.spec(&claim).is_none().then_some(())).await;
}

/// Who does not answer has said nothing.
#[tokio::test]
async fn silence_frees_nothing() {
    let (node, _, claims) = node_that_compares().await;
    for claim in &claims {
        node.api.delete(Resource::Claims, &claim.namespace, &claim.name);
    }
    for listing in [Listing::Absent, Listing::Fails(tonic::Code::Internal), Listing::Stale] {
        node.kubelet().pod_resources().behave(listing);
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    }
    node.api.fail(Resource::Claims, 1000, Fault::Status(500));
    node.kubelet().pod_resources().forget("team", "trainer");
    node.kubelet().pod_resources().behave(Listing::Answers);
    several_rounds(&node).await;
    assert!(claims.iter().all(|claim| node.spec(claim).is_some() && node.record_path(claim).exists()));
}

/// A record that cannot be read is made anew from what the kubelet and the API server know, while its pod goes on.
#[tokio::test]
async fn a_record_that_is_lost_while_its_pod_runs_is_made_anew() {
    for damage in [fs::remove_file::<PathBuf> as fn(PathBuf) -> _, |path| fs::write(path, "damaged")] {
        let (mut node, pods, [claim, other]) = node_that_compares().await;
        let record = fs::read(node.record_path(&claim)).unwrap();
        let spec = node.spec(&claim);
        node.kill().await;
        damage(node.record_path(&claim)).unwrap();
        start(&mut node).await;
        node.wait("the record", |node| (fs::read(node.record_path(&claim)).ok()? == record).then_some(())).await;
        node.wait("the spec", |node| (node.spec(&claim) == spec).then_some(())).await;
        assert!(event(&node, "RecordRebuilt").await.contains("team/training"));
        assert!(node.spec(&other).is_some());
        for pod in &pods {
            // Not listed any more when its claim is undone: else it could be for as long as two rounds take here.
            node.kubelet().force_delete(pod);
            node.kubelet().pod_ends(pod).await;
        }
        assert_nothing_left(&node);
    }
}

/// The spec of a claim whose record was damaged is kept as long as it may be in use, and no longer.
#[tokio::test]
async fn a_damaged_record_of_a_claim_that_nobody_uses_leaves_nothing() {
    let (mut node, _, [claim, _]) = node_that_compares().await;
    node.kill().await;
    fs::write(node.record_path(&claim), "damaged").unwrap();
    node.kubelet().pod_resources().forget("team", "trainer");
    start(&mut node).await;
    assert!(event(&node, "RecordSetAside").await.contains("has no header"));
    node.wait("the spec goes", |node| node.spec(&claim).is_none().then_some(())).await;
    assert!(event(&node, "StrayFileRemoved").await.contains(claim.uid.as_str()));
}

#[tokio::test]
async fn lost_and_damaged_files_are_written_again_and_told() {
    let (node, _, [claim, _]) = node_that_compares().await;
    let (record, spec) = (fs::read(node.record_path(&claim)).unwrap(), fs::read(node.spec_path(&claim)).unwrap());
    fs::remove_file(node.record_path(&claim)).unwrap();
    fs::write(node.spec_path(&claim), "{}").unwrap();
    node.wait("the record", |node| (fs::read(node.record_path(&claim)).ok()? == record).then_some(())).await;
    node.wait("the spec", |node| (fs::read(node.spec_path(&claim)).ok()? == spec).then_some(())).await;
    assert!(event(&node, "ClaimFilesRewritten").await.contains("team/training"));
}

/// Its record is there before its spec, and a comparison may come between.
#[tokio::test]
async fn a_claim_that_is_on_its_way_is_not_taken_for_a_damaged_one() {
    let mut node = Node::new(AGENT, "dgx-h100");
    node.start_kubelet(Answer::Confirm);
    node.start_agent(&["--reconcile", "0.05"]);
    node.wait("the agent", |node| node.ready_after(0)).await;
    let plugin = node.connect().await;
    let claims: Vec<_> = GPUS.iter().map(|gpu| node.allocated(&format!("claim-of-{gpu}"), gpu)).collect();
    let all: Vec<_> = claims.iter().collect();
    for _ in 0..50 {
        let answers = plugin.prepare_all(&all).await.unwrap();
        assert!(answers.values().all(Result::is_ok), "{answers:?}");
        let answers = plugin.unprepare_all(&all).await.unwrap();
        assert!(answers.values().all(Result::is_ok), "{answers:?}");
    }
    assert!(!node.log().contains("ClaimFilesRewritten"), "nobody damaged anything");
    assert_nothing_left(&node);
}

#[tokio::test]
async fn a_pool_that_the_server_refuses_is_named_in_an_event() {
    let mut node = Node::new(AGENT, "dgx-h100");
    node.start_kubelet(Answer::Confirm);
    // The list and the watch come through.
    node.start_agent(&[]);
    node.wait("the slices", |node| (!node.api.slices().is_empty()).then_some(())).await;
    node.wait("the watch", |node| (node.api.requests().of("watch", Resource::Slices) > 0).then_some(())).await;
    node.api.fail(Resource::Slices, 3, Fault::Status(422));
    node.hardware("set 3 lost=true");
    assert!(event(&node, "ResourceSlicesRefused").await.contains("node-1/gpu.nvidia.com"));
    node.wait_for_devices("the taint", |devices| devices.iter().any(|device| !device["taints"].is_null())).await;
    assert_eq!(node.api.events().len(), 1, "said once, not at each try");
}
