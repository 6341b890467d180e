//! One agent, several drivers: they share a process and nothing that fails.

mod apart;
mod chips;
mod replaced;

use std::collections::BTreeSet;

use chips::Chips;
use serde_json::{Value, json};
use testkit::kubelet::{Answer, Pod, Settings, Version};
use testkit::{Claim, GPUS, Node};

use crate::AGENT;

const GPU: &str = "gpu.nvidia.com";
const TPU: &str = "tpu.google.com";

/// A node with eight GPUs and four TPU chips, its agent not started.
fn node_of_both() -> (Node, Chips) {
    let node = Node::new(AGENT, "dgx-h100");
    let chips = Chips::plug_in(&node.root(), 4);
    (node, chips)
}

/// The same with its agent started, both drivers registered and published.
async fn started() -> (Node, Chips) {
    let (mut node, chips) = node_of_both();
    node.start().await;
    (node, chips)
}

/// The names of a driver's published devices.
fn names(node: &Node, driver: &str) -> Vec<String> {
    node.devices_of(driver).iter().map(|device| device["name"].as_str().unwrap().to_owned()).collect()
}

/// A claim that was given a GPU and a chip.
fn of_both(node: &Node, name: &str, number: usize) -> Claim {
    let chip = &names(node, TPU)[number];
    node.known(Claim::new(name).device("gpu", GPUS[number]).device_of(TPU, "tpu", chip))
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
    let (mut node, _chips) = node_of_both();
    node.start_kubelet_as(Settings { seed: 3, wipes: false, ..Settings::of(Version::V1_37) });
    node.start().await;
    assert_eq!((names(&node, GPU).len(), names(&node, TPU).len()), (8, 4));
    let pools: BTreeSet<_> = node.api.slices().iter().map(|slice| slice["spec"]["pool"]["name"].to_string()).collect();
    assert_eq!(pools.len(), 2, "{pools:?}");

    let claims: Vec<_> = (0..4).map(|number| of_both(&node, &format!("claim-{number}"), number)).collect();
    let pod = Pod::new("pod").claims(&claims);
    let mut first = BTreeSet::new();
    for _ in 0..8 {
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
        assert_eq!((node.specs().len(), kinds), (8, [(GPU, 4), (TPU, 4)]));
        first.insert(node.kubelet().calls()[before].driver.clone());
        node.kubelet().pod_ends(&pod).await;
        assert_nothing_left(&node);
    }
    assert_eq!(first.len(), 2, "each is called first some time");
}

#[tokio::test]
async fn a_device_is_in_its_own_drivers_pool_alone() {
    let (node, _chips) = started().await;
    let gpu = node.plugin_of(GPU).await;
    let chip = names(&node, TPU)[0].clone();
    let refusal = gpu.prepare(&node.known(Claim::new("wrong").device("gpu", &chip))).await.unwrap_err();
    assert!(refusal.contains("is not on this node any more"), "{refusal}");
    // What is of the other driver is none of its business.
    let none = gpu.prepare(&node.known(Claim::new("other").device_of(TPU, "tpu", &chip))).await.unwrap();
    assert_eq!(none, []);
    assert_nothing_left(&node);
}

#[tokio::test]
async fn metrics_and_readiness_name_the_driver() {
    let (node, _chips) = started().await;
    let claim = of_both(&node, "training", 0);
    node.plugin_of(TPU).await.prepare(&claim).await.unwrap();
    let (_, metrics) = node.http("/metrics").unwrap();
    for line in [
        "tessera_claims_prepared{driver=\"gpu.nvidia.com\"} 0",
        "tessera_claims_prepared{driver=\"tpu.google.com\"} 1",
        "tessera_devices{driver=\"gpu.nvidia.com\",condition=\"Ready\"} 8",
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
    let (node, chips) = started().await;
    let all = names(&node, TPU);
    let claim = of_both(&node, "training", 1);
    node.plugin_of(TPU).await.prepare(&claim).await.unwrap();
    chips.pull_out(1);
    chips.pull_out(2);
    let is_lost = |device: &Value| device["taints"][0]["key"] == "tessera.dev/lost";
    let lost = |devices: &[Value]| devices.iter().filter(|device| is_lost(device)).count();
    let seen = |node: &Node| Some(node.devices_of(TPU)).filter(|devices| devices.len() == 3 && lost(devices) == 1);
    let devices = node.wait("one is gone and one lost", seen).await;
    assert!(devices.iter().any(|device| is_lost(device) && device["name"] == all[1].as_str()));
    assert_eq!(lost(&node.devices_of(GPU)), 0);
    chips.plug_back(1);
    chips.plug_back(2);
    let whole = |node: &Node| (node.devices_of(TPU).len() == 4 && lost(&node.devices_of(TPU)) == 0).then_some(());
    node.wait("all are back", whole).await;
}

#[tokio::test]
async fn a_kubelet_that_is_restarted_finds_both() {
    let (mut node, _chips) = node_of_both();
    node.start_kubelet_as(Settings::of(Version::V1_37));
    node.start().await;
    let claim = of_both(&node, "training", 0);
    let pod = Pod::new("pod").claim(&claim);
    let answer = node.kubelet().pod_runs(&pod).await;
    for _ in 0..3 {
        node.kubelet().restart();
        assert_eq!(node.kubelet().pod_runs(&pod).await, answer);
        let published = |node: &Node| (names(node, GPU).len() == 8 && names(node, TPU).len() == 4).then_some(());
        node.wait("the slices that it wiped", published).await;
    }
    node.kubelet().pod_ends(&pod).await;
    assert_nothing_left(&node);
}

/// A label that says where the node is in a slice is in the first slices already: they are written once.
#[tokio::test]
async fn the_nodes_labels_are_known_before_anything_is_published() {
    let (mut node, _chips) = node_of_both();
    let labels = json!({"cloud.google.com/gke-tpu-topology": "2x2x4"});
    node.api.edit(testkit::api_server::Resource::Nodes, "", Node::NAME, |object| object["metadata"]["labels"] = labels);
    node.start().await;
    let topology = &node.devices_of(TPU)[0]["attributes"]["topology"]["string"];
    assert_eq!(topology, "2x2x4");
    let writes = node.api.requests().writes();
    node.stop().await;
    node.start_agent(&["--tpu-topology", "4x4x4"]);
    let told = |node: &Node| (node.devices_of(TPU)[0]["attributes"]["topology"]["string"] == "4x4x4").then_some(());
    node.wait("the flag wins", told).await;
    assert_eq!(node.api.requests().writes(), writes + 1, "the TPU's slice, once");
}

#[tokio::test]
async fn only_the_drivers_that_are_chosen_are_served() {
    let (mut node, _chips) = node_of_both();
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
        let (mut node, _chips) = node_of_both();
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
