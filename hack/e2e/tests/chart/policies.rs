//! PartitionPolicies on real nodes: written by an admin, carried out by the controller's pods and the agents'.

use std::collections::BTreeMap;

use e2e::{PATIENCE, Team, bare, bare_nodes, eventually, has_taints_and_more, request_of};
use serde_json::{Value, json};
use simulated_node::SimulatedNode;

/// The GPUs of the machine with eight, in the order in which a policy takes them.
const FIRST: &str = "gpu-0000-1b-00-0";
const SECOND: &str = "gpu-0000-43-00-0";
const LAST: &str = "gpu-0000-df-00-0";

/// The spec of a policy whose rules are these.
pub(crate) fn spec(rules: &Value) -> Value {
    json!({"rules": rules, "rollout": {"order": "Name", "drain": {"deadlineSeconds": 60}}})
}

fn seven() -> Value {
    json!({"partitions": [{"profile": "1g.10gb", "count": 7}]})
}

pub(crate) fn write(node: &SimulatedNode, spec: &Value) {
    let policy = json!({
        "apiVersion": "tessera.dev/v1alpha1",
        "kind": "PartitionPolicy",
        "metadata": {"name": "inference"},
        "spec": spec,
    });
    node.cluster().apply(&policy.to_string()).unwrap();
}

pub(crate) fn kubectl(node: &SimulatedNode, arguments: &[&str]) -> String {
    node.cluster().kubectl_output(arguments).unwrap()
}

/// Waits until the policy's condition is so, and shows it as an admin sees it.
pub(crate) fn wait(node: &SimulatedNode, condition: &str, status: &str) -> Value {
    let get = |output: &[&str]| kubectl(node, &[&["get", "partitionpolicy", "inference"], output].concat());
    let found = eventually(&format!("the policy to be {condition}={status}"), || {
        let policy: Value = serde_json::from_str(&get(&["-o", "json"])).unwrap();
        let is_of_spec = policy["status"]["observedGeneration"] == policy["metadata"]["generation"];
        let conditions = policy["status"]["conditions"].as_array()?;
        let is_so = |one: &&Value| one["type"] == condition && one["status"] == status;
        conditions.iter().find(is_so).filter(|_| is_of_spec)?;
        Some(policy.clone())
    });
    println!("{}", get(&["-o", "wide"]));
    found
}

/// How many devices are published of each GPU, and which are whole.
fn published(node: &SimulatedNode) -> BTreeMap<String, (usize, bool)> {
    let mut gpus = BTreeMap::new();
    for slice in node.slices().unwrap() {
        for device in slice["spec"]["devices"].as_array().into_iter().flatten() {
            let name = device["name"].as_str().unwrap();
            let gpu = name.split("-mig").next().unwrap().to_owned();
            let (count, whole): &mut (usize, bool) = gpus.entry(gpu).or_default();
            *count += 1;
            *whole |= !name.contains("-mig");
        }
    }
    gpus
}

/// The spec of a claim for a device of a class, of the GPU at this address.
fn on(class: &str, bus: &str) -> Value {
    let of_gpu = |attribute: &str| format!("device.attributes['{attribute}'].pciBusID == '0000:{bus}:00.0'");
    json!({"devices": {"requests": [request_of(class, "gpu", &[&of_gpu("resource.kubernetes.io")])]}})
}

#[test]
fn a_policy_cuts_one_gpu_in_seven_and_one_in_two_and_is_changed_and_withdrawn() {
    if !has_taints_and_more() {
        return;
    }
    let node = bare("policy", "dgx-h100");
    node.release().install(&[]).unwrap();
    node.release().wait_until_ready(PATIENCE).unwrap();
    node.wait_for_devices(8, PATIENCE).unwrap();
    let before = published(&node);
    let team = Team::new(&node, "policy");
    team.start("whole", &on("gpu.nvidia.com", "df"), &["devices"]);
    team.wait_running("whole");

    let two = json!({"partitions": [{"profile": "3g.40gb"}, {"profile": "4g.40gb"}]});
    let rules = |first: &Value| {
        json!([
            {"maxPerNode": 1, "layout": first},
            {"maxPerNode": 1, "layout": &two},
            {"devices": {"cel": "device.attributes['tessera.dev'].model.contains('H100')"}, "layout": {"dynamic": {}}},
        ])
    };
    write(&node, &spec(&rules(&seven())));
    wait(&node, "Ready", "True");
    let cut = published(&node);
    assert_eq!((cut[FIRST], cut[SECOND]), ((7, false), (2, false)));
    assert!(cut.iter().filter(|(gpu, _)| ![FIRST, SECOND].contains(&gpu.as_str())).all(|(_, is)| *is == (26, true)));
    // Parts that were made beforehand, and one that is made for its claim.
    for (pod, bus) in [("seventh", "1b"), ("half", "43"), ("on-demand", "52")] {
        team.start(pod, &on("mig.nvidia.com", bus), &["devices"]);
        team.wait_running(pod);
    }

    // Changed: the first GPU is to be shared by three. Who has a part of it is waited for.
    write(&node, &spec(&rules(&json!({"shares": {"count": 3}}))));
    let drained = || {
        let layout: Value = serde_json::from_str(&kubectl(&node, &["get", "nodelayout", "-o", "json"])).unwrap();
        let devices = layout["items"][0]["status"]["devices"].as_array()?.clone();
        let first = devices.into_iter().find(|device| device["name"] == FIRST)?;
        (first["state"] == "Draining" && first["users"] == 1).then(|| first["message"].clone())
    };
    println!("{}", eventually("the first GPU to be drained", drained));
    team.delete_pod("seventh");
    wait(&node, "Ready", "True");
    assert_eq!(published(&node)[FIRST], (1, true));
    for pod in ["one", "two", "three"] {
        team.start(pod, &on("gpu.nvidia.com", "1b"), &["devices"]);
        team.wait_running(pod);
    }
    let seen: Vec<_> = ["one", "two", "three"].iter().map(|pod| team.gpus_seen(pod, "main")).collect();
    assert!(seen.iter().all(|gpus| gpus.len() == 1 && *gpus == seen[0]), "{seen:?}");

    // Withdrawn, once nobody has a part any more; who has the whole of a GPU keeps it.
    for pod in ["one", "two", "three", "half", "on-demand"] {
        team.delete_pod(pod);
    }
    kubectl(&node, &["delete", "partitionpolicy", "inference", "--timeout=90s"]);
    eventually("all to be as before", || (published(&node) == before).then_some(()));
    assert_eq!(team.devices_of("whole"), [LAST]);
    assert!(!team.kubectl(&["get", "events"]).contains("FailedPrepareDynamicResources"));
}

#[test]
fn a_node_that_fails_half_way_has_what_it_had_and_the_rollout_stops() {
    if !has_taints_and_more() {
        return;
    }
    let cluster = bare_nodes("rollout", &["dgx-h100", "dgx-h100"]);
    cluster.release().install(&[]).unwrap();
    cluster.release().wait_until_ready(PATIENCE).unwrap();
    let [one, other] = [0, 1].map(|number| &cluster.nodes()[number]);
    for node in [one, other] {
        node.wait_for_devices(8, PATIENCE).unwrap();
    }
    let hardware = |command: &str| one.machine().run(&command.split(' ').collect::<Vec<_>>()).unwrap();
    hardware("set 0 fail=nvmlDeviceCreateGpuInstanceWithPlacement:UNKNOWN from=4 times=1");
    let mut wanted = spec(&json!([{"maxPerNode": 1, "layout": seven()}]));
    write(one, &wanted);
    let stopped = wait(one, "Stopped", "True");
    assert_eq!(stopped["status"]["nodes"], json!({"matched": 2, "ready": 0, "changing": 0, "failed": 1, "waiting": 1}));
    let failure = &stopped["status"]["failures"][0];
    assert_eq!((&failure["node"], &failure["name"]), (&json!(one.cluster().node_name()), &json!(FIRST)));
    assert!(failure["message"].as_str().unwrap().contains("nvmlDeviceCreateGpuInstanceWithPlacement"), "{failure}");
    for node in [one, other] {
        eventually("what it had", || (published(node).get(FIRST) == Some(&(1, true))).then_some(()));
    }

    // The hardware is well again, and the admin says so.
    hardware("set fail=none");
    wanted["rollout"]["attempt"] = json!(1);
    write(one, &wanted);
    wait(one, "Ready", "True");
    assert!([one, other].iter().all(|node| published(node)[FIRST] == (7, false)));
}
