//! What a policy wants of the devices of a node, by the node's NodeLayout: carried out, answered, changed and withdrawn.

mod by_count;
mod domain;
mod failing;
mod killed;
mod shares;
mod two_agents;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::api_server::{Fault, Resource};
use testkit::kubelet::Answer;
use testkit::{GPUS, Node, Plugin};

use crate::AGENT;

const DRIVER: &str = "gpu.nvidia.com";

/// Whoever was given a device before comes at once in these tests.
const FLAGS: &[&str] = &["--layout-grace", "0.2", "--reconcile", "0.5", "--node-layouts"];

/// A node with eight H100s on which policies are followed.
async fn following() -> (Node, Plugin) {
    following_on("dgx-h100", FLAGS).await
}

/// The same on another machine.
async fn following_on(machine: &str, flags: &[&str]) -> (Node, Plugin) {
    let mut node = Node::new(AGENT, machine);
    node.start_kubelet(Answer::Confirm);
    let plugin = start(&mut node, flags).await;
    (node, plugin)
}

async fn start(node: &mut Node, flags: &[&str]) -> Plugin {
    let known = node.kubelet().registrations().len();
    node.start_agent(flags);
    node.wait("the agent", |node| node.ready_after(known)).await;
    node.connect().await
}

/// What is wanted of one device.
fn desired(device: &str, layout: Value) -> Value {
    desired_of(DRIVER, device, layout)
}

fn desired_of(driver: &str, device: &str, layout: Value) -> Value {
    json!({"driver": driver, "name": device, "policy": "research", "layout": layout, "attempt": 1})
}

fn partitions(mix: &[(&str, u32)]) -> Value {
    let mix: Vec<_> = mix.iter().map(|(profile, count)| json!({"profile": profile, "count": count})).collect();
    json!({"partitions": mix})
}

fn seven() -> Value {
    partitions(&[("1g.10gb", 7)])
}

fn two() -> Value {
    partitions(&[("3g.40gb", 1), ("4g.40gb", 1)])
}

/// The controller says what is wanted.
fn want(node: &Node, devices: &[Value]) {
    let status = node.api.get(Resource::NodeLayouts, "", Node::NAME).map(|object| object["status"].clone());
    let mut object = json!({
        "apiVersion": "tessera.dev/v1alpha1",
        "kind": "NodeLayout",
        "metadata": {"name": Node::NAME},
        "spec": {"devices": devices},
    });
    if let Some(status) = status.filter(|status| !status.is_null()) {
        object["status"] = status;
    }
    node.api.put(Resource::NodeLayouts, object);
}

/// What the agent answers of each device, by name; `None` before it follows what is wanted now.
fn answered(node: &Node) -> Option<BTreeMap<String, Value>> {
    let object = node.api.get(Resource::NodeLayouts, "", Node::NAME)?;
    let is_of_spec = object["status"]["observedGeneration"] == object["metadata"]["generation"];
    let devices = object["status"]["devices"].as_array().filter(|_| is_of_spec)?;
    Some(devices.iter().map(|device| (device["name"].as_str().unwrap().to_owned(), device.clone())).collect())
}

/// Waits until a device is at a state.
async fn reaches(node: &Node, device: &str, state: &str) -> Value {
    let reached = |node: &Node| answered(node)?.get(device).filter(|answer| answer["state"] == state).cloned();
    node.wait(&format!("{device} to be {state}"), reached).await
}

/// Waits until all devices are ready.
async fn all_ready(node: &Node) {
    let ready = |node: &Node| {
        let answered = answered(node)?;
        answered.values().all(|answer| answer["state"] == "Ready").then_some(())
    };
    node.wait("all devices to be ready", ready).await;
}

/// The GPU instances of a GPU, as the machine has them: profile and first slice.
fn instances(node: &Node, gpu: usize) -> BTreeSet<(u32, u32)> {
    let hardware = node.machine().hardware().unwrap();
    hardware.gpus[gpu].mig.gpu_instances.iter().map(|one| (one.profile, one.placement.start)).collect()
}

/// The published devices that begin so, by name, with the keys and effects of their taints.
fn published(node: &Node, begin: &str) -> BTreeMap<String, Vec<String>> {
    let of_it = |device: &Value| device["name"].as_str().unwrap().starts_with(begin);
    let taint = |taint: &Value| {
        let [key, value, effect] = ["key", "value", "effect"].map(|field| taint[field].as_str().unwrap_or_default());
        format!("{key}={value}:{effect}")
    };
    let taints = |device: &Value| device["taints"].as_array().into_iter().flatten().map(taint).collect();
    let devices = node.devices().into_iter().filter(of_it);
    devices.map(|device| (device["name"].as_str().unwrap().to_owned(), taints(&device))).collect()
}

/// The files of layouts.
fn kept(node: &Node) -> Vec<String> {
    let mut names = node.records();
    names.retain(|name| name.contains("layout"));
    names
}

#[tokio::test]
async fn a_node_is_laid_out_changed_and_given_back_while_claims_run() {
    let (node, plugin) = following().await;
    let running = node.allocated("running", GPUS[7]);
    let answer = plugin.prepare(&running).await.unwrap();
    let slices = node.api.slices();
    let dynamic = GPUS[2..].iter().map(|gpu| desired(gpu, json!({"dynamic": {}})));
    let first = [desired(GPUS[0], seven()), desired(GPUS[1], two())];
    want(&node, &first.iter().cloned().chain(dynamic.clone()).collect::<Vec<_>>());
    all_ready(&node).await;

    assert_eq!(instances(&node, 0), (0..7).map(|start| (19, start)).collect());
    assert_eq!(instances(&node, 1), BTreeSet::from([(5, 0), (9, 4)]));
    let parts = |gpu: usize| published(&node, GPUS[gpu]);
    assert_eq!((parts(0).len(), parts(1).len()), (7, 2), "and not as wholes");
    assert!(parts(0).values().chain(parts(1).values()).all(Vec::is_empty), "no taint stays");
    for gpu in 2..8 {
        assert_eq!(parts(gpu).len(), 26, "a whole and its 25 partitions");
        assert_eq!(instances(&node, gpu), BTreeSet::new());
    }
    let answers = answered(&node).unwrap();
    assert_eq!(answers[GPUS[0]]["layout"], seven());
    assert_eq!(answers[GPUS[7]]["users"], 1);
    assert_eq!(answers[GPUS[0]]["attributes"]["gpu.nvidia.com/productName"]["string"], "NVIDIA H100 80GB HBM3");
    assert_eq!(answers[GPUS[0]]["capacity"]["gpu.nvidia.com/memory"], "81559Mi");
    assert_eq!(answers[GPUS[0]]["profiles"][0], "1g.10gb");

    // All of it can be had, by the same agent.
    let part = parts(0).into_keys().next().unwrap();
    let (of_seven, on_demand) =
        (node.allocated("part", &part), node.allocated("demand", &format!("{}-mig-2g20gb-14-2", GPUS[3])));
    for claim in [&of_seven, &on_demand] {
        plugin.prepare(claim).await.unwrap();
    }
    assert_eq!(instances(&node, 3), BTreeSet::from([(14, 2)]));
    let whole = node.allocated("whole", GPUS[0]);
    let refusal = plugin.prepare(&whole).await.unwrap_err();
    assert!(refusal.contains("policy research makes the accelerator 7x1g.10gb") && refusal.len() < 256, "{refusal}");

    // Another layout waits for who has a part.
    let changed = [desired(GPUS[0], partitions(&[("3g.40gb", 2)])), desired(GPUS[1], two())];
    want(&node, &changed.iter().cloned().chain(dynamic).collect::<Vec<_>>());
    let waits = reaches(&node, GPUS[0], "Draining").await;
    assert_eq!(waits["message"], "waiting for claim team/part");
    let taint = "tessera.dev/repartitioning=research:NoSchedule".to_owned();
    let tainted =
        |node: &Node| published(node, GPUS[0]).values().all(|taints| *taints == [taint.clone()]).then_some(());
    node.wait("the taints", tainted).await;
    assert_eq!(parts(0).len(), 7);
    plugin.unprepare(&of_seven).await.unwrap();
    all_ready(&node).await;
    assert_eq!(instances(&node, 0), BTreeSet::from([(9, 0), (9, 4)]));
    assert_eq!(parts(0).len(), 2);

    // Nothing is wanted any more.
    plugin.unprepare(&on_demand).await.unwrap();
    want(&node, &[]);
    all_ready(&node).await;
    assert_eq!((instances(&node, 0), instances(&node, 1)), Default::default());
    assert_eq!(kept(&node), [""; 0]);
    assert!(node.machine().hardware().unwrap().gpus.iter().all(|gpu| !gpu.mig.mode));
    let devices = |slices: &[Value]| -> Vec<Value> {
        slices.iter().flat_map(|slice| slice["spec"]["devices"].as_array().cloned().unwrap_or_default()).collect()
    };
    node.wait("the slices as before", |node| (devices(&node.api.slices()) == devices(&slices)).then_some(())).await;
    assert_eq!(plugin.prepare(&running).await.unwrap(), answer);
    let events = node.api.events();
    let told = |reason: &str| events.iter().any(|(found, _)| found == reason);
    assert!(told("DeviceDraining") && told("LayoutApplied") && !told("LayoutFailed"), "{events:?}");
}

#[tokio::test]
async fn a_restart_with_nothing_changed_writes_nothing() {
    let (mut node, plugin) = following().await;
    want(
        &node,
        &[desired(GPUS[0], seven()), desired(GPUS[1], json!({"whole": {}})), desired(GPUS[2], json!({"dynamic": {}}))],
    );
    all_ready(&node).await;
    let part = published(&node, GPUS[0]).into_keys().next().unwrap();
    let claim = node.allocated("part", &part);
    plugin.prepare(&claim).await.unwrap();
    node.wait("the user", |node| (answered(node)?[GPUS[0]]["users"] == 1).then_some(())).await;
    for kill in [false, true] {
        if kill {
            node.kill().await;
        } else {
            node.stop().await;
        }
        let (slices, object) = (node.api.slices(), node.api.get(Resource::NodeLayouts, "", Node::NAME));
        node.api.forget_requests();
        node.hardware("record on");
        start(&mut node, FLAGS).await;
        tokio::time::sleep(Duration::from_secs(6)).await;
        let requests = node.api.requests();
        assert_eq!((requests.writes(), requests.of("patch", Resource::NodeLayouts)), (0, 0));
        assert_eq!((node.api.slices(), node.api.get(Resource::NodeLayouts, "", Node::NAME)), (slices, object));
        assert!(node.machine().calls().unwrap().iter().all(|call| !call.changed), "nothing is done to the hardware");
        node.hardware("record off");
    }
}

/// Neither costs anything, and nothing is changed.
#[tokio::test]
async fn without_an_object_or_its_kind_devices_are_offered_as_told() {
    let mut node = Node::new(AGENT, "dgx-h100");
    node.start_kubelet(Answer::Confirm);
    node.api.fail_verb("list", Resource::NodeLayouts, usize::MAX, Fault::Status(404));
    start(&mut node, FLAGS).await;
    assert_eq!(node.devices().len(), 8);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let asked = node.api.requests().of("list", Resource::NodeLayouts);
    assert!((1..6).contains(&asked), "ever more rarely: {asked}");
    assert!(node.log().contains("knows no NodeLayouts"));
    node.stop().await;
    node.api.fail_no_more();
    start(&mut node, FLAGS).await;
    want(&node, &[desired(GPUS[0], two())]);
    reaches(&node, GPUS[0], "Ready").await;
    // What is in force stays, also for an agent that is started meanwhile.
    node.api.delete(Resource::NodeLayouts, "", Node::NAME);
    node.kill().await;
    start(&mut node, FLAGS).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((instances(&node, 0).len(), published(&node, GPUS[0]).len()), (2, 2));
    // Who follows no policies any more withdraws what was made for them.
    node.stop().await;
    start(&mut node, &["--layout-grace", "0.2"]).await;
    node.wait("the whole GPU", |node| published(node, GPUS[0]).contains_key(GPUS[0]).then_some(())).await;
    assert_eq!((instances(&node, 0).len(), kept(&node)), (0, Vec::new()));
}

#[tokio::test]
async fn inspect_tells_the_layouts() {
    let (node, _) = following().await;
    want(&node, &[desired(GPUS[0], two()), desired(GPUS[1], partitions(&[("3g.40gb", 3)]))]);
    reaches(&node, GPUS[0], "Ready").await;
    let state = node.state_dir();
    let printed = |output: &str| node.run(&["inspect", "--state-dir", state.to_str().unwrap(), "--output", output]);
    let table = printed("table").stdout;
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].trim_end().ends_with("LAYOUT"), "{table}");
    assert!(
        lines[1].trim_end().ends_with("3g.40gb, 4g.40gb (research)") && lines[2].trim_end().ends_with('-'),
        "{table}"
    );
    let slices = printed("slices").stdout;
    assert!(slices.contains(&format!("{}-mig-4g40gb-5-0", GPUS[0])) && !slices.contains(&format!("\"{}\"", GPUS[0])));
}
