//! GPUs that lie together, on a real node: as one device, and by constraints over single ones.

use std::collections::BTreeSet;

use e2e::{Team, eventually, has_taints_and_more, kubernetes, request, request_of, start_agent, without_agent};
use serde_json::{Value, json};
use simulated_node::SimulatedNode;

/// A node that offers groups; none where the server drops the counters that they need.
fn grouping(name: &str, hardware: &str) -> Option<SimulatedNode> {
    if !has_taints_and_more() {
        eprintln!("Kubernetes {} drops counters, so no groups are published", kubernetes());
        return None;
    }
    let node = without_agent(name, hardware);
    start_agent(&node, &["--offer", "groups"]);
    Some(node)
}

/// The spec of a claim for a group.
fn group_of(size: u32) -> Value {
    let of_size = format!("device.attributes['tessera.dev'].groupSize == {size}");
    json!({"devices": {"requests": [request_of("group.gpu.nvidia.com", "group", &[&of_size])]}})
}

/// The spec of a claim for two GPUs with the same value of an attribute.
fn two_of_one(attribute: &str) -> Value {
    json!({"devices": {
        "requests": [request("a", &[]), request("b", &[])],
        "constraints": [{"requests": ["a", "b"], "matchAttribute": attribute}],
    }})
}

/// A published device.
fn device(node: &SimulatedNode, name: &str) -> Value {
    let slices = node.slices().unwrap();
    let mut devices = slices.iter().flat_map(|slice| slice["spec"]["devices"].as_array().into_iter().flatten());
    devices.find(|device| device["name"] == name).unwrap_or_else(|| panic!("{name} is not published")).clone()
}

/// The GPUs that a device takes, which are the names of their counters, in order.
fn members(device: &Value) -> Vec<String> {
    let sets = device["consumesCounters"].as_array().into_iter().flatten();
    let counters: BTreeSet<_> =
        sets.flat_map(|set| set["counters"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()).collect();
    counters.into_iter().collect()
}

/// An attribute of a GPU.
fn attribute(node: &SimulatedNode, gpu: &str, name: &str) -> Value {
    device(node, gpu)["attributes"][name].clone()
}

#[test]
fn a_pod_gets_four_gpus_of_one_island_and_socket_and_others_wait_for_them() {
    let Some(node) = grouping("groups", "dgx-h100") else { return };
    let team = Team::new(&node, "groups");
    team.start("training", &group_of(4), &["devices"]);
    team.wait_running("training");
    let quad = members(&device(&node, &team.devices_of("training")[0]));
    let seen = team.gpus_seen("training", "main");
    assert_eq!((quad.len(), seen.len()), (4, 4), "{quad:?} {seen:?}");
    let values = |name| quad.iter().map(|gpu| attribute(&node, gpu, name).to_string()).collect::<BTreeSet<_>>();
    assert_eq!(values("tessera.dev/fabricKind"), BTreeSet::from([r#"{"string":"switched"}"#.to_owned()]));
    for name in ["tessera.dev/fabricDomain", "resource.kubernetes.io/numaNode"] {
        assert_eq!(values(name).len(), 1, "{name}: {:?}", values(name));
    }

    // All eight, and a GPU of the four by itself, have to wait; the others of the node do not.
    team.start("octet", &group_of(8), &["devices"]);
    let address = attribute(&node, &quad[0], "resource.kubernetes.io/pciBusID")["string"].clone();
    let this = format!("device.attributes['resource.kubernetes.io'].pciBusID == '{}'", address.as_str().unwrap());
    team.start("member", &json!({"devices": {"requests": [request("gpu", &[&this])]}}), &["devices"]);
    for waiting in ["octet", "member"] {
        team.wait_event(waiting, &["cannot allocate all claims"]);
    }
    team.start("neighbour", &group_of(4), &["devices"]);
    team.wait_running("neighbour");
    let others = team.gpus_seen("neighbour", "main");
    assert_eq!((others.len(), others.is_disjoint(&seen)), (4, true), "{others:?} {seen:?}");
    for waiting in ["octet", "member"] {
        assert_eq!(team.get("pod", waiting)["status"]["phase"], "Pending");
    }

    // A member does not wait for the whole node, the octet does.
    let uid = team.uid_of("training");
    assert_eq!(team.files_of(&uid).len(), 2, "a CDI spec and a record");
    team.delete_pod("training");
    eventually("the files of the claim are gone", || team.files_of(&uid).is_empty().then_some(()));
    team.wait_running("member");
    let member = team.gpus_seen("member", "main");
    assert!(member.len() == 1 && member.is_subset(&seen), "{member:?} {seen:?}");
    assert_eq!(team.get("pod", "octet")["status"]["phase"], "Pending");
    for pod in ["member", "neighbour"] {
        team.delete_pod(pod);
    }
    team.wait_running("octet");
    assert_eq!(team.gpus_seen("octet", "main").len(), 8);
}

#[test]
fn two_gpus_behind_one_switch_are_given_by_a_constraint_and_as_a_pair() {
    let Some(node) = grouping("switches", "dgx-a100") else { return };
    let team = Team::new(&node, "switches");
    // The first GPU is taken, so that the first two that are free do not match, and its pair is broken.
    team.run_with_one_gpu("first", &["devices"]);
    let taken = team.devices_of("first").remove(0);

    let switches = |gpus: &[String]| -> BTreeSet<_> {
        gpus.iter().map(|gpu| attribute(&node, gpu, "tessera.dev/pcieSwitch").to_string()).collect()
    };
    team.start("matched", &two_of_one("tessera.dev/pcieSwitch"), &["devices"]);
    team.wait_running("matched");
    let matched = team.devices_of("matched");
    assert_eq!((matched.len(), switches(&matched).len()), (2, 1), "{matched:?}");

    let mut used = [vec![taken], matched].concat();
    for name in ["third", "fourth"] {
        team.start(name, &group_of(2), &["devices"]);
        team.wait_running(name);
        let pair = members(&device(&node, &team.devices_of(name)[0]));
        assert_eq!((pair.len(), switches(&pair).len()), (2, 1), "{pair:?}");
        assert!(pair.iter().all(|gpu| !used.contains(gpu)), "{pair:?} {used:?}");
        used.extend(pair);
    }
    // One GPU is left, alone behind its switch.
    team.start("waiting", &group_of(2), &["devices"]);
    team.wait_event("waiting", &["cannot allocate all claims"]);
}

#[test]
fn two_gpus_of_one_island_are_given_by_a_constraint() {
    let Some(node) = grouping("islands", "h100x16") else { return };
    let team = Team::new(&node, "islands");
    // Of the first of two baseboards one GPU is left, so the first two that are free are of two islands.
    let first_board = "device.attributes['resource.kubernetes.io'].pciBusID.startsWith('0000:')";
    let mut seven = request("gpus", &[first_board]);
    seven["exactly"]["count"] = json!(7);
    team.start("most", &json!({"devices": {"requests": [seven]}}), &["devices"]);
    team.wait_running("most");
    team.start("matched", &two_of_one("tessera.dev/fabricDomain"), &["devices"]);
    team.wait_running("matched");
    let matched = team.devices_of("matched");
    let islands: BTreeSet<_> =
        matched.iter().map(|gpu| attribute(&node, gpu, "tessera.dev/fabricDomain").to_string()).collect();
    assert_eq!((matched.len(), islands.len()), (2, 1), "{matched:?} {islands:?}");
    assert!(matched.iter().all(|gpu| gpu.starts_with("gpu-0001-")), "{matched:?}");
    // No two H100 of this machine are behind one switch.
    team.start("waiting", &two_of_one("tessera.dev/pcieSwitch"), &["devices"]);
    team.wait_event("waiting", &["cannot allocate all claims"]);
}
