//! The config of the device plugin, which is followed while the agent runs: files change, and the label that chooses one.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;
use testkit::api_server::{Fault, Resource};
use testkit::kubelet::{ActivePod, Answer, DeviceManager};
use testkit::{GPUS, Node};

use crate::AGENT;

const GPU: &str = "nvidia.com/gpu";
const SHARED: &str = "nvidia.com/gpu.shared";
const LABEL: &str = "nvidia.com/device-plugin.config";
const REFUSED: &str = "DevicePluginConfigRefused";

const SLICED: &str =
    "sharing: {timeSlicing: {renameByDefault: true, resources: [{name: gpu, devices: 1, replicas: 4}]}}";
const BAD: &str = "flags: {migStrategy: both}";

/// A node with eight GPUs and a kubelet.
fn node() -> (Node, DeviceManager) {
    let mut node = Node::new(AGENT, "dgx-h100");
    node.start_kubelet(Answer::Confirm);
    let manager = DeviceManager::start(&node.kubelet_dir());
    (node, manager)
}

async fn start(node: &mut Node, flags: &[&str]) {
    let known = node.kubelet().registrations().len();
    node.start_agent(&[&["--api", "both"], flags].concat());
    node.wait("registered and ready", |node| node.ready_after(known)).await;
}

/// Waits until so many devices can be had of each.
async fn healthy(node: &Node, manager: &DeviceManager, whole: usize, shared: usize) {
    let what = format!("{whole} of {GPU} and {shared} of {SHARED}");
    let look =
        |_: &Node| (manager.healthy(GPU).len() == whole && manager.healthy(SHARED).len() == shared).then_some(());
    node.wait(&what, look).await;
}

/// Puts another file in the place of one, at once: one that is being written is empty for a moment, and means something then.
fn replace(path: &str, text: &str) {
    let aside = format!("{path}.new");
    fs::write(&aside, text).unwrap();
    fs::rename(aside, path).unwrap();
}

fn refusals(node: &Node) -> Vec<String> {
    let events = node.api.events().into_iter().filter(|(reason, _)| reason == REFUSED);
    events.map(|(_, note)| note).collect()
}

async fn refused(node: &Node, part: &str) -> String {
    let told = |node: &Node| refusals(node).into_iter().find(|note| note.contains(part));
    node.wait(&format!("an event about {part}"), told).await
}

fn metric(node: &Node, text: &str) -> bool {
    node.http("/metrics").is_some_and(|(_, metrics)| metrics.contains(text))
}

fn label(node: &Node, value: Option<&str>) {
    node.api.edit(Resource::Nodes, "", Node::NAME, |node| {
        node["metadata"]["labels"] = value.map_or_else(|| json!({}), |value| json!({LABEL: value}));
    });
}

/// A ConfigMap's files as the kubelet mounts them, all of which change at once.
fn mount(directory: &Path, version: u32, files: &[(&str, &str)]) {
    let data = directory.join(format!("..{version}"));
    fs::create_dir(&data).unwrap();
    for (name, text) in files {
        fs::write(data.join(name), text).unwrap();
        if !directory.join(name).exists() {
            symlink(Path::new("..data").join(name), directory.join(name)).unwrap();
        }
    }
    let aside = directory.join("..data_tmp");
    symlink(&data, &aside).unwrap();
    fs::rename(&aside, directory.join("..data")).unwrap();
}

fn files() -> (TempDir, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    mount(directory.path(), 1, &[("plain", ""), ("sliced", SLICED), ("broken", BAD)]);
    let flags = ["--config-file-srcdir", directory.path().to_str().unwrap()].map(str::to_owned).to_vec();
    (directory, flags)
}

#[tokio::test]
async fn a_file_that_changes_applies_while_pods_have_devices() {
    let (mut node, manager) = node();
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    fs::write(&path, "").unwrap();
    start(&mut node, &["--config-file", &path]).await;
    healthy(&node, &manager, 8, 0).await;
    // Seven of the eight are used; the first is not.
    let ids = manager.healthy(GPU).into_iter().skip(1).collect::<Vec<_>>();
    let allocated = manager.allocate(GPU, &ids).await.unwrap();
    node.kubelet().pod_resources().list(ActivePod::new("counted").devices(GPU, &allocated.ids));
    let lent =
        |node: &Node| node.devices().iter().filter(|device| device["taints"].to_string().contains("lent")).count();
    node.wait("taints", |node| (lent(node) == 7).then_some(())).await;

    replace(&path, SLICED);
    healthy(&node, &manager, 7, 4).await;
    // Nothing was restarted, and whose devices are theirs stays known.
    assert_eq!(lent(&node), 7);
    let refused_claim = node.connect().await.prepare(&node.allocated("training", GPUS[1])).await.unwrap_err();
    assert!(refused_claim.contains("is used by pods"), "{refused_claim}");
    let shared = manager.admit(SHARED, 1).await.unwrap();

    // What cannot be followed changes nothing, is told once, and nothing else suffers.
    replace(&path, BAD);
    let note = refused(&node, "flags.migStrategy").await;
    assert!(note.contains(&path) && note.contains("what was in force stays"), "{note}");
    assert!(metric(&node, "device_plugin_config_refused{driver=\"gpu.nvidia.com\"} 1"));
    assert_eq!(node.http("/readyz").unwrap().0, 200);
    healthy(&node, &manager, 7, 4).await;
    assert_eq!(refusals(&node).len(), 1);
    fs::remove_file(&path).unwrap();
    refused(&node, "No such file").await;
    healthy(&node, &manager, 7, 4).await;

    // What a pod shares is given to nobody as a whole before the pod ends.
    replace(&path, "# nothing is shared");
    healthy(&node, &manager, 7, 0).await;
    manager.free(SHARED, &shared.ids);
    healthy(&node, &manager, 8, 0).await;
    assert!(metric(&node, "device_plugin_config_refused{driver=\"gpu.nvidia.com\"} 0"));
}

#[tokio::test]
async fn a_file_that_is_wrong_from_the_start_keeps_no_claim_from_being_served() {
    let (mut node, manager) = node();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), BAD).unwrap();
    start(&mut node, &["--config-file", file.path().to_str().unwrap()]).await;
    assert!(refused(&node, "flags.migStrategy").await.contains("nothing is offered by count"));
    node.wait("the first listing", |node| node.log().contains("it is known what pods have").then_some(())).await;
    node.connect().await.prepare(&node.allocated("training", GPUS[0])).await.unwrap();
    assert_eq!(manager.registrations().len(), 0);
    replace(file.path().to_str().unwrap(), SLICED);
    // The claim has the one that pods would share.
    healthy(&node, &manager, 7, 0).await;
}

#[tokio::test]
async fn the_label_of_the_node_chooses_a_file() {
    let (mut node, manager) = node();
    let (directory, flags) = files();
    let flags: Vec<_> = flags.iter().map(String::as_str).chain(["--default-config", "plain"]).collect();
    start(&mut node, &flags).await;
    healthy(&node, &manager, 8, 0).await;
    label(&node, Some("sliced"));
    healthy(&node, &manager, 7, 4).await;
    // One that is not there, and one that is wrong: the last good one stays.
    label(&node, Some("missing"));
    refused(&node, "the node's label names missing, and there is only broken, plain, sliced").await;
    label(&node, Some("broken"));
    refused(&node, "flags.migStrategy").await;
    healthy(&node, &manager, 7, 4).await;
    // The ConfigMap changes.
    mount(directory.path(), 2, &[("plain", ""), ("sliced", SLICED), ("broken", "")]);
    healthy(&node, &manager, 8, 0).await;
    label(&node, Some("sliced"));
    healthy(&node, &manager, 7, 4).await;
    label(&node, None);
    healthy(&node, &manager, 8, 0).await;
    // One list and watches: no reading again and again.
    let requests = node.api.requests();
    assert_eq!(requests.of("list", Resource::Nodes), 1);
    assert!(requests.of("get", Resource::Nodes) <= 2, "{requests:?}");

    // The next agent follows the label from its start.
    label(&node, Some("sliced"));
    healthy(&node, &manager, 7, 4).await;
    node.stop().await;
    start(&mut node, &flags).await;
    healthy(&node, &manager, 7, 4).await;
    assert!(!manager.registrations().is_empty());
}

#[tokio::test]
async fn without_label_and_default_fallbacks_choose() {
    let (mut node, manager) = node();
    let (directory, flags) = files();
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    start(&mut node, &flags).await;
    refused(&node, "no fallback chooses among broken, plain, sliced").await;
    assert_eq!(manager.registrations().len(), 0);
    mount(directory.path(), 2, &[("plain", ""), ("sliced", SLICED), ("broken", BAD), ("default", SLICED)]);
    node.stop().await;
    start(&mut node, &[&flags[..], &["--fallback-strategies", "named,single"]].concat()).await;
    healthy(&node, &manager, 7, 4).await;
}

#[tokio::test]
async fn labels_that_may_not_be_watched_are_told() {
    let (mut node, manager) = node();
    let (_directory, flags) = files();
    let flags: Vec<_> = flags.iter().map(String::as_str).chain(["--default-config", "plain"]).collect();
    // Its list is refused; the node's UID can still be read.
    node.api.fail_verb("list", Resource::Nodes, 2, Fault::Status(403));
    start(&mut node, &flags).await;
    refused(&node, "the labels of the node cannot be watched").await;
    healthy(&node, &manager, 8, 0).await;
}
