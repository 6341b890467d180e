//! TPUs on a real node: alone, and beside GPUs.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use e2e::{Team, claim, container, has_taints_and_more, kubernetes, own, pod, request_of, start_agent, without_agent};
use serde_json::{Value, json};
use simulated_node::SimulatedNode;

const CHIP: &str = "tpu.google.com";
const GROUP: &str = "group.tpu.google.com";
const GPU: &str = "gpu.nvidia.com";
const ANY: &str = "accelerator.tessera.dev";

/// What every container here does.
const LOOK: [&str; 3] = ["devices", "env", "echo over"];

/// The node with two GPUs and four chips that some tests share. Its IOMMU groups of TPUs are 2 to 5.
fn of_both() -> &'static SimulatedNode {
    static NODE: OnceLock<SimulatedNode> = OnceLock::new();
    NODE.get_or_init(|| own("both", "nvidia-tpu"))
}

/// The spec of a claim for one device of a class.
fn one(class: &str, cel: &[&str]) -> Value {
    json!({"devices": {"requests": [request_of(class, "device", cel)]}})
}

/// CEL for a block of chips.
fn shape(shape: &str) -> String {
    format!("device.attributes['tpu.google.com'].shape == '{shape}'")
}

/// What libtpu is told in a pod of one container, of these variables; `-` where one is not there.
fn told(team: &Team<'_>, pod: &str, names: &[&str]) -> Vec<String> {
    let environment = team.environment_seen(pod, "main");
    names.iter().map(|name| environment.get(*name).cloned().unwrap_or_else(|| "-".to_owned())).collect()
}

const PART: [&str; 6] = [
    "TPU_VISIBLE_CHIPS",
    "TPU_CHIPS_PER_PROCESS_BOUNDS",
    "TPU_PROCESS_BOUNDS",
    "TPU_SKIP_MDS_QUERY",
    "TPU_WORKER_ID",
    "TPU_WORKER_HOSTNAMES",
];

#[test]
fn a_chip_a_block_and_the_whole_host_exclude_each_other() {
    if !has_taints_and_more() {
        return eprintln!("Kubernetes {} drops counters, so no groups are published", kubernetes());
    }
    let node = without_agent("tpu", "tpu-v5e");
    start_agent(&node, &["--offer", "groups"]);
    let team = Team::new(&node, "tpu");

    team.start("chip", &one(CHIP, &[]), &LOOK);
    team.wait_running("chip");
    let chip = team.vfio_groups_seen("chip", "main");
    assert_eq!(chip.len(), 1, "{chip:?}");
    let index = chip.first().unwrap().to_string();
    assert_eq!(told(&team, "chip", &PART), [&index, "1,1,1", "1,1,1", "true", "0", "localhost"]);

    // The other half of the host is the only block that is left.
    team.start("block", &one(GROUP, &[&shape("2x2")]), &LOOK);
    team.wait_running("block");
    let block = team.vfio_groups_seen("block", "main");
    assert!(block.len() == 4 && block.is_disjoint(&chip), "{block:?} {chip:?}");
    let indexes = block.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    assert_eq!(told(&team, "block", &PART), [&indexes, "2,2,1", "1,1,1", "true", "0", "localhost"]);
    let port = |pod: &str| told(&team, pod, &["TPU_PROCESS_PORT"]).remove(0);
    assert_ne!(port("chip"), port("block"), "they may share the host's network");

    team.start("another-block", &one(GROUP, &[&shape("2x2")]), &LOOK);
    team.start("host", &one(GROUP, &["device.attributes['tpu.google.com'].wholeHost"]), &LOOK);
    for waiting in ["another-block", "host"] {
        team.wait_event(waiting, &["cannot allocate all claims"]);
    }
    // Chips of the half that is broken up are there for whoever wants one.
    team.start("second-chip", &one(CHIP, &[]), &LOOK);
    team.wait_running("second-chip");
    assert!(team.vfio_groups_seen("second-chip", "main").is_disjoint(&block));
    for waiting in ["another-block", "host"] {
        assert_eq!(team.get("pod", waiting)["status"]["phase"], "Pending", "{waiting}");
    }

    for pod in ["chip", "second-chip"] {
        team.delete_pod(pod);
    }
    team.wait_running("another-block");
    for pod in ["block", "another-block"] {
        team.delete_pod(pod);
    }
    team.wait_running("host");
    assert_eq!(team.vfio_groups_seen("host", "main"), (0..8).collect());
    let whole =
        ["TPU_VISIBLE_CHIPS", "TPU_TOPOLOGY", "TPU_ACCELERATOR_TYPE", "TPU_CHIPS_PER_HOST_BOUNDS", "TPU_HOST_BOUNDS"];
    assert_eq!(told(&team, "host", &whole), ["-", "2x4", "v5litepod-8", "2,4,1", "1,1,1"]);
    let uid = team.uid_of("host");
    assert_eq!(team.files_of(&uid).len(), 2, "a CDI spec and a record");
    team.delete_pod("host");
    e2e::eventually("the files of the claim are gone", || team.files_of(&uid).is_empty().then_some(()));
}

#[test]
fn pods_of_both_vendors_and_a_pod_with_both() {
    let team = Team::new(of_both(), "vendors");
    team.start("gpu", &one(GPU, &[]), &LOOK);
    team.start("tpu", &one(CHIP, &[]), &LOOK);
    let both = json!({"devices": {"requests": [request_of(GPU, "gpu", &[]), request_of(CHIP, "tpu", &[])]}});
    team.start("both", &both, &LOOK);
    let mut seen = BTreeSet::new();
    for (name, gpus, chips) in [("gpu", 1, 0), ("tpu", 0, 1), ("both", 1, 1)] {
        team.wait_running(name);
        let (own_gpus, own_chips) = (team.gpus_seen(name, "main"), team.vfio_groups_seen(name, "main"));
        assert_eq!((own_gpus.len(), own_chips.len()), (gpus, chips), "{name}: {own_gpus:?} {own_chips:?}");
        seen.extend(own_gpus);
        seen.extend(own_chips.iter().map(u32::to_string));
    }
    assert_eq!(seen.len(), 4, "each has its own: {seen:?}");
    assert_eq!(team.environment_seen("both", "main")["TPU_WORKER_ID"], "0");
}

/// The spec of a claim for the first of these that can be had.
fn first_of(choices: &[(&str, &str, &str)]) -> Value {
    let choice = |(name, class, cel): &(&str, &str, &str)| json!({"name": name, "deviceClassName": class, "selectors": [{"cel": {"expression": cel}}]});
    let choices: Vec<_> = choices.iter().map(choice).collect();
    json!({"devices": {"requests": [{"name": "device", "firstAvailable": choices}]}})
}

#[test]
fn the_first_that_is_available_of_either_vendor() {
    let team = Team::new(of_both(), "first");
    let at_least =
        |gigabytes: u32| format!("device.capacity['tessera.dev'].memory.compareTo(quantity('{gigabytes}Gi')) >= 0");
    let (small, large) = (at_least(8), at_least(40));
    team.start("tpu-if-large", &first_of(&[("tpu", CHIP, &large), ("gpu", GPU, &large)]), &LOOK);
    team.start("tpu-if-small", &first_of(&[("tpu", CHIP, &small), ("gpu", GPU, &small)]), &LOOK);
    for (name, gpus, chips) in [("tpu-if-large", 1, 0), ("tpu-if-small", 0, 1)] {
        team.wait_running(name);
        assert_eq!(
            (team.gpus_seen(name, "main").len(), team.vfio_groups_seen(name, "main").len()),
            (gpus, chips),
            "{name}"
        );
    }
}

#[test]
fn one_class_serves_either_vendor_by_memory() {
    let team = Team::new(of_both(), "any");
    let memory =
        |comparison: &str| format!("device.capacity['tessera.dev'].memory.compareTo(quantity('30Gi')) {comparison} 0");
    team.start("large", &one(ANY, &[&memory(">")]), &LOOK);
    team.start("small", &one(ANY, &[&memory("<")]), &LOOK);
    for (name, gpus, chips) in [("large", 1, 0), ("small", 0, 1)] {
        team.wait_running(name);
        assert_eq!(
            (team.gpus_seen(name, "main").len(), team.vfio_groups_seen(name, "main").len()),
            (gpus, chips),
            "{name}"
        );
    }
}

#[test]
fn manifests_written_for_googles_driver_work_unchanged() {
    let node = own("googles", "nvidia-tpu");
    let team = Team::new(&node, "googles");
    team.apply_yaml(include_str!("manifests/google-style.yaml"));
    // Both want all four chips, and one has to wait for the other.
    let chips = BTreeSet::from([2, 3, 4, 5]);
    let mut order = vec!["all", "four"];
    let running = |pod: &str| team.get("pod", pod)["status"]["phase"] == "Running";
    e2e::eventually("one of them runs", || order.iter().any(|pod| running(pod)).then_some(()));
    order.sort_by_key(|pod| !running(pod));
    for name in order {
        team.wait_running(name);
        // Somebody else's device in user space, which lies beside them, is none of theirs.
        assert_eq!(team.vfio_groups_seen(name, "ctr0"), chips, "{name}");
        let environment = team.environment_seen(name, "ctr0");
        assert_eq!((&*environment["TPU_TOPOLOGY"], &*environment["TPU_CHIPS_PER_HOST_BOUNDS"]), ("2x2", "2,2,1"));
        team.delete_pod(name);
    }
    if has_taints_and_more() {
        team.apply_yaml(include_str!("manifests/google-style-extended-resource.yaml"));
        team.wait_running("extended");
        assert_eq!(team.vfio_groups_seen("extended", "ctr0"), chips);
        team.delete_pod("extended");
    }
}

/// A config of Google's kind for one request.
fn log_level(request: &str, level: u8) -> Value {
    let parameters =
        json!({"apiVersion": "tpu.resource.google.com/v1alpha1", "kind": "TpuConfig", "logging": {"level": level}});
    json!({"requests": [request], "opaque": {"driver": CHIP, "parameters": parameters}})
}

#[test]
fn libtpu_logs_as_claims_written_for_googles_driver_say() {
    let node = own("logging", "nvidia-tpu");
    let team = Team::new(&node, "logging");
    team.apply_yaml(include_str!("manifests/google-style-logging.yaml"));
    team.wait_running("logging");
    assert_eq!(team.vfio_groups_seen("logging", "ctr0").len(), 4);
    let environment = team.environment_seen("logging", "ctr0");
    for name in ["TPU_MIN_LOG_LEVEL", "TPU_STDERR_LOG_LEVEL"] {
        assert_eq!(environment.get(name).map(String::as_str), Some("2"), "{name}");
    }
    team.delete_pod("logging");

    // A config for each vendor's devices, and one of them chosen.
    let mut first = first_of(&[("tpu", CHIP, "true"), ("gpu", GPU, "true")]);
    let gpu = json!({"apiVersion": "resource.nvidia.com/v1beta1", "kind": "GpuConfig"});
    let gpu = json!({"requests": ["device/gpu"], "opaque": {"driver": GPU, "parameters": gpu}});
    first["devices"]["config"] = json!([gpu, log_level("device/tpu", 1)]);
    team.start("first", &first, &LOOK);
    team.wait_running("first");
    assert_eq!(told(&team, "first", &["TPU_MIN_LOG_LEVEL", "TPU_STDERR_LOG_LEVEL"]), ["1", "1"]);

    let requests = json!([request_of(CHIP, "one", &[]), request_of(CHIP, "other", &[])]);
    let different = json!({"devices": {"requests": requests, "config": [log_level("one", 0), log_level("other", 3)]}});
    team.start("different", &different, &LOOK);
    team.wait_event("different", &["logging.level is 0 for request one and 3 for request other", "use two claims"]);
}

#[test]
fn a_chip_that_is_pulled_out_while_a_pod_has_it_is_tainted_alone() {
    if !has_taints_and_more() {
        return eprintln!("Kubernetes {} drops taints", kubernetes());
    }
    let node = own("pulled", "nvidia-tpu");
    let team = Team::new(&node, "pulled");
    team.start("training", &one(CHIP, &[]), &LOOK);
    team.wait_running("training");
    let held = team.devices_of("training").remove(0);
    let tainted = || -> Vec<String> {
        let slices = node.slices().unwrap();
        let devices = slices.iter().flat_map(|slice| slice["spec"]["devices"].as_array().into_iter().flatten());
        devices
            .filter(|device| device["taints"].is_array())
            .map(|device| device["name"].as_str().unwrap().to_owned())
            .collect()
    };
    node.machine().run(&["set", "tpu0", "present=false"]).unwrap();
    e2e::eventually("the taint", || (tainted() == [held.as_str()]).then_some(()));
    assert_eq!(team.get("pod", "training")["status"]["phase"], "Running");
    // The others are handed out as before.
    let uses = [json!({"name": "claim", "resourceClaimName": "next"})];
    team.apply(&[claim("next", &one(CHIP, &[])), pod("next", &uses, &[container("main", &["claim"], &LOOK)])]);
    team.wait_running("next");
    assert_ne!(team.devices_of("next"), [held]);
    node.machine().run(&["set", "tpu0", "present=true"]).unwrap();
    e2e::eventually("no taint", || tainted().is_empty().then_some(()));
}
