//! Pods that ask for devices by count, with the stock kubelet; beside claims, too.

use std::collections::BTreeSet;

use e2e::{Team, container, eventually, own_with, pod};
use serde_json::{Value, json};
use simulated_node::SimulatedNode;

const GPU: &str = "nvidia.com/gpu";
const SHARED: &str = "nvidia.com/gpu.shared";

/// A pod whose container asks for so many of a resource.
fn asking(name: &str, resource: &str, count: u32) -> Value {
    let mut main = container("main", &[], &["devices"]);
    main["resources"] = json!({"limits": {resource: count.to_string()}});
    pod(name, &[], &[main])
}

/// How many of a resource the node has for pods, as the API server was told.
fn allocatable(node: &SimulatedNode, resource: &str) -> Option<u32> {
    let text = node.cluster().kubectl_output(&["get", "node", node.cluster().node_name(), "-o", "json"]).ok()?;
    let node: Value = serde_json::from_str(&text).ok()?;
    node["status"]["allocatable"][resource].as_str()?.parse().ok()
}

fn wait_allocatable(node: &SimulatedNode, resource: &str, count: u32) {
    eventually(&format!("{count} of {resource}"), || (allocatable(node, resource)? == count).then_some(()));
}

#[test]
fn a_pod_gets_two_gpus_and_others_what_is_left() {
    let node = own_with("by-count", "dgx-h100", &["--api", "device-plugin"]);
    let team = Team::new(&node, "by-count");
    wait_allocatable(&node, GPU, 8);
    team.apply(&[asking("two", GPU, 2)]);
    team.wait_running("two");
    let two = team.gpus_seen("two", "main");
    team.apply(&[asking("six", GPU, 6)]);
    team.wait_running("six");
    let six = team.gpus_seen("six", "main");
    assert_eq!((two.len(), six.len(), two.is_disjoint(&six)), (2, 6, true), "{two:?} {six:?}");

    // The kubelet starts anew: the resource comes back, and pods keep what they have.
    node.cluster().restart_kubelet().unwrap();
    team.delete_pod("six");
    team.apply(&[asking("again", GPU, 6)]);
    team.wait_running("again");
    assert_eq!(team.gpus_seen("again", "main"), six);
    assert_eq!(team.get("pod", "two")["status"]["phase"], "Running");
    wait_allocatable(&node, GPU, 8);

    // A GPU that does not answer is given to nobody until it does.
    team.clear();
    node.machine().run(&["set", "3", "lost=true"]).unwrap();
    wait_allocatable(&node, GPU, 7);
    team.apply(&[asking("all", GPU, 8)]);
    team.wait_event("all", &["Insufficient nvidia.com/gpu"]);
    node.machine().run(&["set", "3", "lost=false"]).unwrap();
    wait_allocatable(&node, GPU, 8);
    team.wait_running("all");
}

#[test]
fn four_pods_share_one_gpu() {
    let node = e2e::without_agent("replicas", "dgx-h100");
    let config = json!({"version": "v1", "sharing": {"timeSlicing": {
        "renameByDefault": true, "resources": [{"name": GPU, "devices": 1, "replicas": 4}],
    }}});
    std::fs::write(node.cluster().run_directory().join("device-plugin.yaml"), config.to_string()).unwrap();
    e2e::start_agent(&node, &["--api", "device-plugin", "--config-file", "/run/cluster/device-plugin.yaml"]);
    let team = Team::new(&node, "replicas");
    wait_allocatable(&node, SHARED, 4);
    wait_allocatable(&node, GPU, 7);
    let names = ["first", "second", "third", "fourth"];
    team.apply(&names.map(|name| asking(name, SHARED, 1)));
    let seen: BTreeSet<_> = names
        .iter()
        .map(|name| {
            team.wait_running(name);
            team.gpus_seen(name, "main")
        })
        .collect();
    assert_eq!(seen.len(), 1, "{seen:?}");
    team.apply(&[asking("fifth", SHARED, 1)]);
    team.wait_event("fifth", &["Insufficient nvidia.com/gpu.shared"]);
}

#[test]
fn no_gpu_has_two_owners_where_both_apis_are_on() {
    let node = own_with("both-apis", "dgx-h100", &["--api", "both"]);
    let team = Team::new(&node, "both");
    wait_allocatable(&node, GPU, 8);
    let mut owned: Vec<BTreeSet<String>> = Vec::new();
    for round in 0..4 {
        let (claimed, counted) = (format!("claimed-{round}"), format!("counted-{round}"));
        team.run_with_one_gpu(&claimed, &["devices"]);
        owned.push(team.gpus_seen(&claimed, "main"));
        // The kubelet is told at once, and the API server a moment later.
        wait_allocatable(&node, GPU, 8 - round - 1);
        team.apply(&[asking(&counted, GPU, 1)]);
        team.wait_running(&counted);
        owned.push(team.gpus_seen(&counted, "main"));
        eventually("a taint", || {
            let slices = node.slices().unwrap();
            let devices = slices.iter().flat_map(|slice| slice["spec"]["devices"].as_array().into_iter().flatten());
            let lent = devices.filter(|device| device["taints"].to_string().contains("tessera.dev/lent")).count();
            // Servers that keep no taints are not told of the device at all.
            let kept = !e2e::has_taints_and_more() || lent == usize::try_from(round).ok()? + 1;
            kept.then_some(())
        });
    }
    let all: BTreeSet<_> = owned.iter().flatten().collect();
    assert_eq!((owned.iter().all(|one| one.len() == 1), all.len()), (true, 8), "{owned:?}");
    // All go, and either way all can be had again.
    team.clear();
    wait_allocatable(&node, GPU, 8);
    team.apply(&[asking("all", GPU, 8)]);
    team.wait_running("all");
}
