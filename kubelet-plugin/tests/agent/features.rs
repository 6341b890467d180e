//! The labels of GPU feature discovery: what is written where, how often, and what is left alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use testkit::Node;
use testkit::api_server::{Fault, Resource};
use testkit::kubelet::Answer;

use crate::AGENT;

const COUNT: &str = "nvidia.com/gpu.count";
const PRODUCT: &str = "nvidia.com/gpu.product";
const TIMESTAMP: &str = "nvidia.com/gfd.timestamp";

type Labels = BTreeMap<String, String>;

fn node(profile: &str) -> Node {
    let mut node = Node::new(AGENT, profile);
    node.start_kubelet(Answer::Confirm);
    node
}

/// Starts an agent that labels the node this way, and waits until it works.
async fn label(node: &mut Node, way: &str, more: &[&str]) {
    let known = node.kubelet().registrations().len();
    node.start_agent(&[&["--feature-labels", way], more].concat());
    node.wait("the agent", |node| node.ready_after(known)).await;
}

/// The labels of the Node object.
fn of_node(node: &Node) -> Labels {
    texts(&node.api.get(Resource::Nodes, "", Node::NAME).unwrap()["metadata"]["labels"])
}

/// The labels in the NodeFeature.
fn of_object(node: &Node) -> Labels {
    let object = node.api.get(Resource::NodeFeatures, "default", "node-1-gpu-features");
    texts(&object.unwrap_or_default()["spec"]["labels"])
}

fn texts(labels: &Value) -> Labels {
    serde_json::from_value(labels.clone()).unwrap_or_default()
}

fn features_d(node: &Node) -> PathBuf {
    node.root().join("features.d")
}

fn of_file(node: &Node) -> Labels {
    let text = fs::read_to_string(features_d(node).join("gfd")).unwrap_or_default();
    let labels = text.lines().map(|line| line.split_once('=').unwrap());
    labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

async fn wait(node: &Node, what: &str, read: fn(&Node) -> Labels, good: impl Fn(&Labels) -> bool) -> Labels {
    node.wait(what, |node| Some(read(node)).filter(&good)).await
}

fn has(key: &'static str, value: &'static str) -> impl Fn(&Labels) -> bool {
    move |labels| labels.get(key).is_some_and(|found| found == value)
}

/// What is written is the same, whichever way it goes.
#[tokio::test]
async fn each_way_says_the_same_and_a_restart_writes_nothing() {
    let mut all = Vec::new();
    for (way, read) in [("file", of_file as fn(&Node) -> Labels), ("node-feature", of_object), ("node", of_node)] {
        let mut node = node("dgx-h100");
        fs::create_dir(features_d(&node)).unwrap();
        let file = features_d(&node).join("gfd").to_string_lossy().into_owned();
        let flags = ["--features-file", &*file];
        label(&mut node, way, &flags).await;
        let labels = wait(&node, "labels", read, has(COUNT, "8")).await;
        assert_eq!(labels["nvidia.com/gpu.machine"], "DGXH100");
        assert!(labels[TIMESTAMP].parse::<u64>().unwrap() > 1_700_000_000);
        let written = |node: &Node| {
            let file = fs::metadata(&file).ok().map(|data| data.modified().unwrap());
            let patches = [Resource::Nodes, Resource::NodeFeatures].map(|what| node.api.requests().of("patch", what));
            (file, patches)
        };
        let before = written(&node);
        node.stop().await;
        assert_eq!(read(&node), labels, "an agent that ends takes nothing away");
        label(&mut node, way, &flags).await;
        node.hardware("set 3 present=false");
        let after = wait(&node, "one GPU less", read, has(COUNT, "7")).await;
        assert_eq!(labels.len(), after.len());
        let patches = written(&node).1.iter().sum::<usize>() - before.1.iter().sum::<usize>();
        assert_eq!(patches, usize::from(way != "file"), "{way}: one write for one change, and none for the start");
        all.push(labels.into_iter().filter(|(key, _)| key != TIMESTAMP).collect::<Labels>());
    }
    assert!(all.iter().all(|labels| *labels == all[0]), "{all:#?}");
}

#[tokio::test]
async fn the_object_says_whose_it_is() {
    let mut node = node("dgx-h100");
    label(&mut node, "node-feature", &[]).await;
    wait(&node, "labels", of_object, has(COUNT, "8")).await;
    let object = node.api.get(Resource::NodeFeatures, "default", "node-1-gpu-features").unwrap();
    let metadata = &object["metadata"];
    assert_eq!(metadata["labels"], json!({"nfd.node.kubernetes.io/node-name": "node-1"}));
    assert_eq!(
        (&metadata["ownerReferences"][0]["kind"], &metadata["ownerReferences"][0]["uid"]),
        (&json!("Node"), &json!(Node::UID))
    );
    assert_eq!(object["spec"]["features"], json!({"flags": {}, "attributes": {}, "instances": {}}));
    // Somebody deletes the object, and the next agent finds it missing.
    node.stop().await;
    node.api.delete(Resource::NodeFeatures, "default", "node-1-gpu-features");
    label(&mut node, "node-feature", &[]).await;
    wait(&node, "labels", of_object, has(COUNT, "8")).await;
}

#[tokio::test]
async fn what_others_wrote_stays_theirs() {
    let mut node = node("dgx-h100");
    let theirs = json!({"kubernetes.io/os": "linux", "nvidia.com/gpu.present": "true", PRODUCT: "mine"});
    node.api.edit(Resource::Nodes, "", Node::NAME, |node| node["metadata"]["labels"] = theirs);
    label(&mut node, "node", &[]).await;
    let told = |node: &Node| node.api.events().into_iter().find(|(reason, _)| reason == "FeatureLabelsNotWritten");
    let (_, note) = node.wait("an event", told).await;
    assert!(note.contains("conflict") && note.contains(PRODUCT), "{note}");
    assert_eq!(of_node(&node)[PRODUCT], "mine");
    assert!(node.http("/metrics").unwrap().1.contains("reason=\"FeatureLabelsNotWritten\"} 1"));
    assert_eq!(node.http("/readyz").unwrap().0, 200);

    // They take it away, and later what else they had.
    node.api.edit(Resource::Nodes, "", Node::NAME, |node| {
        node["metadata"]["labels"].as_object_mut().unwrap().remove(PRODUCT);
    });
    let labels = wait(&node, "labels", of_node, has(PRODUCT, "NVIDIA-H100-80GB-HBM3")).await;
    assert_eq!((&*labels["kubernetes.io/os"], &*labels["nvidia.com/gpu.present"]), ("linux", "true"));
}

#[tokio::test]
async fn partitions_by_hand_are_told_and_those_of_claims_are_not() {
    let mut node = node("a100-h100");
    let config = tempfile::NamedTempFile::new().unwrap();
    fs::write(config.path(), "flags: {migStrategy: mixed}").unwrap();
    let flags = ["--config-file", config.path().to_str().unwrap(), "--offer", "partitions"];
    label(&mut node, "node", &flags).await;
    let before = wait(&node, "labels", of_node, has("nvidia.com/mig.strategy", "mixed")).await;
    let plugin = node.connect().await;
    let claim = node.allocated("training", "gpu-0000-af-00-0-mig-3g40gb-9-4");
    plugin.prepare(&claim).await.unwrap();
    assert_eq!(node.machine().hardware().unwrap().gpus[1].mig.gpu_instances.len(), 1);
    plugin.unprepare(&claim).await.unwrap();

    node.hardware("mig 1 on");
    node.hardware("mig 1 create 1g.10gb+me");
    let part = "nvidia.com/mig-1g.10gb.me.count";
    let labels = wait(&node, "labels of a partition", of_node, has(part, "1")).await;
    assert_eq!(labels["nvidia.com/mig-1g.10gb.me.product"], "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb.me");
    let number = node.machine().hardware().unwrap().gpus[1].mig.gpu_instances[0].id;
    node.hardware(&format!("mig 1 destroy {number}"));
    node.hardware("mig 1 off");
    let gone = |labels: &Labels| labels.keys().eq(before.keys());
    wait(&node, "labels as before", of_node, gone).await;
    let patches = node.api.requests().of("patch", Resource::Nodes);
    assert!((3..=4).contains(&patches), "one at the start, and at each change by hand; none for the claim: {patches}");
}

#[tokio::test]
async fn a_node_that_lost_its_gpus_loses_its_labels() {
    let mut node = node("dgx-h100");
    node.api.edit(Resource::Nodes, "", Node::NAME, |node| node["metadata"]["labels"] = json!({"a": "b"}));
    label(&mut node, "node", &[]).await;
    wait(&node, "labels", of_node, has(COUNT, "8")).await;
    // What is lost for the moment is still there.
    (0..8).for_each(|gpu| node.hardware(&format!("set {gpu} lost=true")));
    node.wait("lost GPUs", |node| node.http("/metrics").filter(|(_, text)| text.contains("condition=\"Lost\"} 8")))
        .await;
    assert_eq!(of_node(&node)[COUNT], "8");
    (0..8).for_each(|gpu| node.hardware(&format!("set {gpu} present=false")));
    wait(&node, "no labels", of_node, |labels| labels.keys().eq(["a"])).await;
}

#[tokio::test]
async fn labels_are_written_once_the_server_takes_them() {
    let mut node = node("dgx-h100");
    node.api.fail(Resource::NodeFeatures, 3, Fault::Status(503));
    label(&mut node, "node-feature", &[]).await;
    wait(&node, "labels", of_object, has(COUNT, "8")).await;
    node.api.fail(Resource::NodeFeatures, 1, Fault::Status(404));
    node.hardware("set 3 present=false");
    node.wait("a reason", |node| node.log().contains("install node-feature-discovery").then_some(())).await;
    wait(&node, "one GPU less", of_object, has(COUNT, "7")).await;
}

#[tokio::test]
async fn nothing_is_labelled_unless_told_to() {
    let mut node = node("dgx-h100");
    node.start().await;
    assert_eq!(node.api.requests().of("patch", Resource::Nodes), 0);
    assert_eq!(of_node(&node), Labels::new());
}
