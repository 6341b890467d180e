//! One agent, several drivers: they share a process and nothing that fails.

mod apart;
mod replaced;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::api_server::Resource;
use testkit::kubelet::{Answer, Pod, Settings, Version};
use testkit::{Claim, Node};

use crate::AGENT;

const GPU: &str = "gpu.nvidia.com";
const TPU: &str = "tpu.google.com";

/// A node with two GPUs and four TPU chips, its agent not started.
fn node_of_both() -> Node {
    Node::new(AGENT, "nvidia-tpu")
}

/// The same with its agent started, both drivers registered and published.
async fn started() -> Node {
    let mut node = node_of_both();
    node.start().await;
    node
}

/// The names of a driver's published devices.
fn names(node: &Node, driver: &str) -> Vec<String> {
    node.devices_of(driver).iter().map(|device| device["name"].as_str().unwrap().to_owned()).collect()
}

/// The GPUs and the chips, in the order in which they are published.
const GPUS: [&str; 2] = ["gpu-0000-41-00-0", "gpu-0000-c1-00-0"];
const CHIPS: [&str; 4] = ["tpu-0000-00-05-0", "tpu-0000-00-06-0", "tpu-0000-00-07-0", "tpu-0000-00-08-0"];

/// A claim that was given a GPU and a chip.
fn of_both(node: &Node, name: &str, number: usize) -> Claim {
    node.known(Claim::new(name).device("gpu", GPUS[number]).device_of(TPU, "tpu", CHIPS[number]))
}

/// Nothing of any claim of either driver is left on the node.
#[track_caller]
fn assert_nothing_left(node: &Node) {
    assert_eq!((node.specs(), node.records_of(GPU), node.records_of(TPU)), (vec![], vec![], vec![]));
}

async fn wait_for_line(node: &Node, status: u16, line: &str) {
    let told = |node: &Node| {
        let (found, body) = node.http("/readyz")?;
        (found == status && body.lines().any(|one| one.contains(line))).then_some(())
    };
    node.wait(&format!("/readyz says {status} and {line:?}"), told).await;
}

#[tokio::test]
async fn one_pod_gets_devices_of_both() {
    let mut node = node_of_both();
    node.start_kubelet_as(Settings { seed: 3, wipes: false, ..Settings::of(Version::V1_37) });
    node.start().await;
    assert_eq!(
        (names(&node, GPU), names(&node, TPU)),
        (GPUS.map(str::to_owned).to_vec(), CHIPS.map(str::to_owned).to_vec())
    );
    let pools: BTreeSet<_> = node.api.slices().iter().map(|slice| slice["spec"]["pool"]["name"].to_string()).collect();
    assert_eq!(pools.len(), 2, "{pools:?}");

    let claims: Vec<_> = (0..2).map(|number| of_both(&node, &format!("claim-{number}"), number)).collect();
    let pod = Pod::new("pod").claims(&claims);
    let mut first = BTreeSet::new();
    // Each driver is called first some time: which one, chance says, and how often it was asked before depends on the
    // order in which the sockets were found.
    for _ in 0..64 {
        let before = node.kubelet().calls().len();
        let prepared = node.kubelet().pod_runs(&pod).await;
        for claim in &prepared {
            let ids = claim.cdi_ids(None).join(" ");
            assert!(
                ids.contains("tessera.gpu.nvidia.com/claim=") && ids.contains("tessera.tpu.google.com/claim="),
                "{ids}"
            );
        }
        let kinds = [(GPU, node.records_of(GPU)), (TPU, node.records_of(TPU))].map(|(driver, all)| (driver, all.len()));
        assert_eq!((node.specs().len(), kinds), (4, [(GPU, 2), (TPU, 2)]));
        first.insert(node.kubelet().calls()[before].driver.clone());
        node.kubelet().pod_ends(&pod).await;
        assert_nothing_left(&node);
        if first.len() == 2 {
            return;
        }
    }
    panic!("in 64 pods, only {first:?} was called first");
}

#[tokio::test]
async fn a_device_is_in_its_own_drivers_pool_alone() {
    let node = started().await;
    let gpu = node.plugin_of(GPU).await;
    let refusal = gpu.prepare(&node.known(Claim::new("wrong").device("gpu", CHIPS[0]))).await.unwrap_err();
    assert!(refusal.contains("is not on this node any more"), "{refusal}");
    // What is of the other driver is none of its business.
    let none = gpu.prepare(&node.known(Claim::new("other").device_of(TPU, "tpu", CHIPS[0]))).await.unwrap();
    assert_eq!(none, []);
    assert_nothing_left(&node);
}

#[tokio::test]
async fn metrics_and_readiness_name_the_driver() {
    let node = started().await;
    let claim = of_both(&node, "training", 0);
    node.plugin_of(TPU).await.prepare(&claim).await.unwrap();
    let (_, metrics) = node.http("/metrics").unwrap();
    for line in [
        "tessera_claims_prepared{driver=\"gpu.nvidia.com\"} 0",
        "tessera_claims_prepared{driver=\"tpu.google.com\"} 1",
        "tessera_devices{driver=\"gpu.nvidia.com\",condition=\"Ready\"} 2",
        "tessera_devices{driver=\"tpu.google.com\",condition=\"Ready\"} 4",
        "tessera_driver_ready{driver=\"gpu.nvidia.com\"} 1",
        "tessera_driver_ready{driver=\"tpu.google.com\"} 1",
        "tessera_claim_operation_seconds_count{driver=\"tpu.google.com\",operation=\"Prepare\",result=\"Success\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    let families = metrics.lines().filter(|line| line.starts_with("# TYPE"));
    let (all, each) = families.fold((0, BTreeSet::new()), |(number, mut each), line| {
        each.insert(line);
        (number + 1, each)
    });
    assert_eq!(all, each.len(), "a family stands once");
    let (_, body) = node.http("/readyz").unwrap();
    assert_eq!(body.lines().count(), 2, "{body}");
}

#[tokio::test]
async fn a_chip_that_is_pulled_out_is_gone_or_tainted_and_gpus_are_not() {
    let node = started().await;
    let claim = of_both(&node, "training", 1);
    node.plugin_of(TPU).await.prepare(&claim).await.unwrap();
    node.hardware("set tpu1 present=false");
    node.hardware("set tpu2 present=false");
    let is_lost = |device: &Value| device["taints"][0]["key"] == "tessera.dev/lost";
    let lost = |devices: &[Value]| devices.iter().filter(|device| is_lost(device)).count();
    let seen = |node: &Node| Some(node.devices_of(TPU)).filter(|devices| devices.len() == 3 && lost(devices) == 1);
    let devices = node.wait("one is gone and one lost", seen).await;
    assert!(devices.iter().any(|device| is_lost(device) && device["name"] == CHIPS[1]));
    assert_eq!(lost(&node.devices_of(GPU)), 0);
    node.hardware("set tpu1 present=true");
    node.hardware("set tpu2 present=true");
    let whole = |node: &Node| (node.devices_of(TPU).len() == 4 && lost(&node.devices_of(TPU)) == 0).then_some(());
    node.wait("all are back", whole).await;
    // A chip that another driver has, or none, is there and cannot be used.
    node.hardware("set tpu3 driver=none");
    let lost = |node: &Node| node.devices_of(TPU).iter().any(|device| is_lost(device) && device["name"] == CHIPS[3]);
    node.wait("a chip without a driver", |node| lost(node).then_some(())).await;
    node.hardware("set tpu3 driver=vfio-pci");
    node.wait("all are back", whole).await;
}

/// A node pool with TPUs and no GPUs hears nothing of GPUs.
#[tokio::test]
async fn a_host_of_tpus_alone() {
    let mut node = Node::new(AGENT, "tpu-v5e");
    node.start().await;
    assert_eq!((names(&node, TPU).len(), node.api.slices().len(), node.kubelet().registrations().len()), (8, 1, 1));
    wait_for_line(&node, 200, "gpu.nvidia.com: not served, none of its hardware is on this node").await;
    let chip = names(&node, TPU)[0].clone();
    let claim = node.known(Claim::new("training").device_of(TPU, "tpu", &chip));
    let plugin = node.plugin_of(TPU).await;
    plugin.prepare(&claim).await.unwrap();
    plugin.unprepare(&claim).await.unwrap();
    assert_nothing_left(&node);
}

#[tokio::test]
async fn a_kubelet_that_is_restarted_finds_both() {
    let mut node = node_of_both();
    node.start_kubelet_as(Settings::of(Version::V1_37));
    node.start().await;
    let claim = of_both(&node, "training", 0);
    let pod = Pod::new("pod").claim(&claim);
    let answer = node.kubelet().pod_runs(&pod).await;
    for _ in 0..3 {
        node.kubelet().restart();
        assert_eq!(node.kubelet().pod_runs(&pod).await, answer);
        let published = |node: &Node| (names(node, GPU).len() == 2 && names(node, TPU).len() == 4).then_some(());
        node.wait("the slices that it wiped", published).await;
    }
    node.kubelet().pod_ends(&pod).await;
    assert_nothing_left(&node);
}

/// What nobody owns is undone by each driver, from one answer of the kubelet: it gives few.
#[tokio::test]
async fn the_kubelet_is_asked_once_for_all_drivers() {
    const ROUND: Duration = Duration::from_millis(200);
    let mut node = node_of_both();
    node.start_kubelet(Answer::Confirm);
    node.start_agent(&["--reconcile", "0.2"]);
    node.wait("ready", |node| node.ready_after(1)).await;
    let claim = of_both(&node, "training", 0);
    node.kubelet().pod_runs(&Pod::new("trainer").claim(&claim)).await;
    let (begun, before) = (Instant::now(), node.kubelet().pod_resources().lists());
    tokio::time::sleep(5 * ROUND).await;
    let (lists, took) = (node.kubelet().pod_resources().lists() - before, begun.elapsed());
    let rounds = took.as_millis() / ROUND.as_millis() + 1;
    assert!(lists as u128 <= rounds, "{lists} in {took:?}");

    node.kubelet().pod_resources().forget("team", "trainer");
    node.api.delete(Resource::Claims, &claim.namespace, &claim.name);
    let undone = |node: &Node| (node.records_of(GPU).is_empty() && node.records_of(TPU).is_empty()).then_some(());
    node.wait("both parts are undone", undone).await;
    assert_nothing_left(&node);
    let told = |node: &Node| {
        let of = |driver| {
            node.api.events().iter().any(|(reason, note)| reason == "OrphanedClaimUndone" && note.starts_with(driver))
        };
        (of(GPU) && of(TPU)).then_some(())
    };
    node.wait("an event of each", told).await;
}

/// A label that says where the node is in a slice is in the first slices already: they are written once.
#[tokio::test]
async fn the_nodes_labels_are_known_before_anything_is_published() {
    let mut node = node_of_both();
    let labels = json!({"cloud.google.com/gke-tpu-topology": "4x8"});
    node.api.edit(Resource::Nodes, "", Node::NAME, |object| object["metadata"]["labels"] = labels);
    node.start().await;
    let topology = &node.devices_of(TPU)[0]["attributes"]["topology"]["string"];
    assert_eq!(topology, "4x8");
    let writes = node.api.requests().writes();
    node.stop().await;
    node.start_agent(&["--tpu-topology", "8x8"]);
    let told = |node: &Node| (node.devices_of(TPU)[0]["attributes"]["topology"]["string"] == "8x8").then_some(());
    node.wait("the flag wins", told).await;
    assert_eq!(node.api.requests().writes(), writes + 1, "the TPU's slice, once");
}

#[tokio::test]
async fn only_the_drivers_that_are_chosen_are_served() {
    let mut node = node_of_both();
    node.start_kubelet(Answer::Confirm);
    node.start_agent(&["--drivers", "tpu"]);
    node.wait("ready", |node| node.ready_after(0)).await;
    assert_eq!((names(&node, GPU).len(), names(&node, TPU).len()), (0, 4));
    assert!(!node.http("/readyz").unwrap().1.contains(GPU));
}

/// What a second driver costs, as the kernel counts the agent's memory.
#[tokio::test]
async fn a_driver_more_costs_little_memory() {
    let mut resident = Vec::new();
    for drivers in ["nvidia", "nvidia,tpu"] {
        let mut node = node_of_both();
        node.start_kubelet(Answer::Confirm);
        node.start_agent(&["--drivers", drivers]);
        node.wait("ready", |node| node.ready_after(drivers.split(',').count() - 1)).await;
        let status = std::fs::read_to_string(format!("/proc/{}/status", node.agent().id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        resident.push(line.trim().trim_end_matches(" kB").parse::<u64>().unwrap());
    }
    println!("one driver: {} KiB, two: {} KiB", resident[0], resident[1]);
    assert!(resident[1] < resident[0] + 4096, "{resident:?} KiB");
}
