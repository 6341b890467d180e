//! A node whose GPUs can be cut, and what to look for on it.

use std::collections::BTreeSet;
use std::fs;

use e2e::{eventually, has_taints_and_more, kubernetes, request_of, start_agent, without_agent};
use serde_json::{Value, json};
use simulated_node::SimulatedNode;

/// A GPU of the profile `a100-h100`.
pub(crate) struct Gpu {
    /// What commands for the hardware call it.
    pub(crate) index: usize,
    /// What it is called as a device.
    pub(crate) name: &'static str,
    /// What its product name holds.
    pub(crate) product: &'static str,
}

pub(crate) const A100: Gpu = Gpu { index: 0, name: "gpu-0000-3b-00-0", product: "A100" };
pub(crate) const H100: Gpu = Gpu { index: 1, name: "gpu-0000-af-00-0", product: "H100" };

/// The agent's flags for partitions on demand.
pub(crate) const ON_DEMAND: &[&str] = &["--offer", "partitions"];

/// Whether partitions can be offered before they are made. Says so where not.
pub(crate) fn has_counters() -> bool {
    if !has_taints_and_more() {
        eprintln!("Kubernetes {} drops counters; see the tests of the projection", kubernetes());
    }
    has_taints_and_more()
}

/// A node with an A100, whose MIG mode an admin has switched on, and an H100. No agent runs.
pub(crate) fn cuttable(name: &str) -> SimulatedNode {
    let node = without_agent(name, "a100-h100");
    switch_on(&node);
    node
}

/// As an admin does on Ampere.
pub(crate) fn switch_on(node: &SimulatedNode) {
    hardware(node, "mig 0 on");
    hardware(node, "reset 0");
}

/// The same with an agent that cuts on demand.
pub(crate) fn cutting(name: &str) -> SimulatedNode {
    let node = cuttable(name);
    start_agent(&node, ON_DEMAND);
    node
}

/// A command for the hardware.
#[track_caller]
pub(crate) fn hardware(node: &SimulatedNode, command: &str) {
    node.machine().run(&command.split(' ').collect::<Vec<_>>()).unwrap();
}

/// A request for one partition.
pub(crate) fn partition(name: &str, cel: &[&str]) -> Value {
    request_of("mig.nvidia.com", name, cel)
}

/// The spec of a claim for one partition of a GPU.
pub(crate) fn profile(gpu: &Gpu, profile: &str) -> Value {
    spec(&[partition("mig", &[&on(gpu), &format!("device.attributes['gpu.nvidia.com'].profile == '{profile}'")])])
}

/// The spec of a claim for a GPU as a whole.
pub(crate) fn whole(gpu: &Gpu) -> Value {
    spec(&[e2e::request("gpu", &[&on(gpu)])])
}

/// The spec of a claim.
pub(crate) fn spec(requests: &[Value]) -> Value {
    json!({"devices": {"requests": requests}})
}

/// In CEL: of this GPU.
pub(crate) fn on(gpu: &Gpu) -> String {
    format!("device.attributes['gpu.nvidia.com'].productName.contains('{}')", gpu.product)
}

/// The published devices.
pub(crate) fn devices(node: &SimulatedNode) -> Vec<Value> {
    let of_slice = |slice: &Value| slice["spec"]["devices"].as_array().cloned().unwrap_or_default();
    node.slices().unwrap().iter().flat_map(of_slice).collect()
}

/// The names of the published devices of a GPU.
pub(crate) fn published(node: &SimulatedNode, gpu: &Gpu) -> BTreeSet<String> {
    let names = devices(node).into_iter().map(|device| device["name"].as_str().unwrap().to_owned());
    names.filter(|name| name.starts_with(gpu.name)).collect()
}

/// The name of a partition as a device.
pub(crate) fn named(gpu: &Gpu, rest: &str) -> String {
    format!("{}-mig-{rest}", gpu.name)
}

/// GPU instances of a GPU, as the machine has them: profile and first slice.
pub(crate) fn instances(node: &SimulatedNode, gpu: &Gpu) -> BTreeSet<(u32, u32)> {
    let hardware = node.machine().hardware().unwrap();
    hardware.gpus[gpu.index].mig.gpu_instances.iter().map(|one| (one.profile, one.placement.start)).collect()
}

/// Waits until nothing of any claim is on the node: neither partitions nor files.
#[track_caller]
pub(crate) fn nothing_left(node: &SimulatedNode) {
    eventually("no partition of a claim is left", || {
        (instances(node, &A100).is_empty() && instances(node, &H100).is_empty()).then_some(())
    });
    eventually("no file of a claim is left", || files(node).is_empty().then_some(()));
}

/// The CDI specs and records on the node.
pub(crate) fn files(node: &SimulatedNode) -> Vec<String> {
    let root = node.cluster().node_root();
    let entries = ["run/cdi", "run/tessera/gpu.nvidia.com"].map(|path| fs::read_dir(root.join(path)));
    let names = entries.into_iter().flatten().flatten().flatten().map(|entry| entry.file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".json") || name.ends_with(".record")).collect()
}
