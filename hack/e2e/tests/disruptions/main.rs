//! What happens when parts of a node die, restart or break. Each test has a node of its own. All of it is one program, so
//! that the slow tests run beside the others.

// Also in what the tests share, which clippy.toml does not reach.
#![allow(clippy::unwrap_used)]

mod outage;
mod repairs;
mod upgrade;

use cluster::Signal;
use e2e::{
    PATIENCE, Team, by_chart, claim, container, eventually, has_taints_and_more, kubernetes, one_gpu, own, pod,
    request, without_agent,
};
use serde_json::{Value, json};
use simulated_node::SimulatedNode;

/// The slices with all that a write would change.
fn stamps(node: &SimulatedNode) -> Vec<(Value, Value, Value)> {
    let stamp = |slice: &Value| {
        (slice["metadata"]["uid"].clone(), slice["metadata"]["resourceVersion"].clone(), slice["spec"].clone())
    };
    node.slices().unwrap().iter().map(stamp).collect()
}

fn restarts(team: &Team<'_>, pod: &str) -> Value {
    let status = &team.get("pod", pod)["status"];
    json!([
        status["phase"],
        status["containerStatuses"][0]["restartCount"],
        status["containerStatuses"][0]["containerID"]
    ])
}

#[test]
fn a_killed_agent_comes_back_as_if_nothing_had_been() {
    let node = own("kill-agent", "dgx-h100");
    let team = Team::new(&node, "killed");
    team.run_with_one_gpu("before", &["devices"]);
    let (slices, pod_before) = (stamps(&node), restarts(&team, "before"));

    node.agent().stop(Signal::KILL).unwrap();
    node.agent().start(&[]).unwrap();
    node.agent().wait_until_ready(PATIENCE).unwrap();
    // A prepare works at once: the new pod needs nothing but the scheduler and this agent.
    team.run_with_one_gpu("after", &["devices"]);
    assert!(!team.kubectl(&["get", "events"]).contains("FailedPrepareDynamicResources"));
    assert_eq!(stamps(&node), slices, "same slices, same resourceVersion: no write");
    assert_eq!(restarts(&team, "before"), pod_before, "the running pod goes on");
    assert!(team.gpus_seen("after", "main").is_disjoint(&team.gpus_seen("before", "main")));

    // What the dead agent prepared, the new one undoes.
    let uid = team.uid_of("before");
    team.delete_pod("before");
    eventually("the files of the claim are gone", || team.files_of(&uid).is_empty().then_some(()));
}

#[test]
fn a_stopped_agent_leaves_its_slices_and_no_socket() {
    let node = own("stop-agent", "dgx-h100");
    let slices = stamps(&node);
    let ended = node.agent().stop(Signal::TERM).unwrap();
    assert!(by_chart() || ended.contains('0'), "{ended}");
    let sockets = || {
        let directories = ["var/lib/kubelet/plugins_registry", "var/lib/kubelet/plugins/gpu.nvidia.com"];
        directories.iter().flat_map(|path| std::fs::read_dir(node.cluster().node_root().join(path)).unwrap()).count()
    };
    assert_eq!(sockets(), 0);
    assert_eq!(stamps(&node), slices);
    node.agent().start(&[]).unwrap();
    eventually("both sockets", || (sockets() == 2).then_some(()));
}

#[test]
fn a_kubelet_restart_brings_the_slices_back_and_pods_go_on() {
    let node = own("kubelet", "dgx-h100");
    let team = Team::new(&node, "restarted");
    team.run_with_one_gpu("before", &["devices"]);
    let (slices, pod_before) = (stamps(&node), restarts(&team, "before"));

    node.cluster().restart_kubelet().unwrap();
    // A kubelet deletes the slices of its node when it starts.
    eventually("the slices are made anew", || {
        let now = stamps(&node);
        (now.len() == slices.len() && now[0].0 != slices[0].0).then_some(())
    });
    node.wait_for_devices(8, PATIENCE).unwrap();
    assert_eq!(restarts(&team, "before"), pod_before, "the running pod goes on");
    team.run_with_one_gpu("after", &["devices"]);
    team.delete_pod("before");
}

#[test]
fn slices_that_a_person_deletes_come_back() {
    let node = own("delete-slices", "dgx-h100");
    let before = stamps(&node);
    node.cluster().kubectl_output(&["delete", "resourceslices", "--all"]).unwrap();
    node.wait_for_devices(8, PATIENCE).unwrap();
    let after = stamps(&node);
    assert_ne!(after[0].0, before[0].0);
    assert_eq!(after[0].2["devices"], before[0].2["devices"]);
}

#[test]
fn a_lost_gpu_is_tainted_shown_in_the_pod_and_given_to_nobody() {
    if !has_taints_and_more() {
        return eprintln!("Kubernetes {} drops taints; see the next test", kubernetes());
    }
    let node = own("lost", "mixed");
    let team = Team::new(&node, "lost");
    team.run_with_one_gpu("training", &["devices"]);
    let device = team.devices_of("training").remove(0);
    let index = node.slices().unwrap()[0]["spec"]["devices"]
        .as_array()
        .unwrap()
        .iter()
        .position(|found| found["name"] == device.as_str())
        .unwrap();
    let taints = || {
        let slices = node.slices().unwrap();
        slices[0]["spec"]["devices"]
            .as_array()
            .unwrap()
            .iter()
            .find(|found| found["name"] == device.as_str())
            .map(|found| found["taints"].clone())
    };
    let health = || {
        let pod = team.get("pod", "training");
        pod["status"]["containerStatuses"][0]["allocatedResourcesStatus"][0]["resources"][0]["health"]
            .as_str()
            .map(str::to_owned)
    };
    eventually("the kubelet says Healthy", || (health()? == "Healthy").then_some(()));

    node.machine().run(&["set", &index.to_string(), "lost=true"]).unwrap();
    eventually("a taint", || (taints()?[0]["key"] == "tessera.dev/lost").then_some(()));
    eventually("the kubelet says Unhealthy", || (health()? == "Unhealthy").then_some(()));
    assert_eq!(team.get("pod", "training")["status"]["phase"], "Running", "whether to end it is its owner's to say");

    // The other two are given away, the lost one is not.
    team.delete_pod("training");
    for name in ["second", "third"] {
        team.run_with_one_gpu(name, &["devices"]);
        assert_ne!(team.devices_of(name), [device.as_str()]);
    }
    let uses = [json!({"name": "gpu", "resourceClaimName": "fourth"})];
    team.apply(&[claim("fourth", &one_gpu()), pod("fourth", &uses, &[container("main", &["gpu"], &["devices"])])]);
    team.wait_event("fourth", &["cannot allocate all claims"]);

    node.machine().run(&["set", &index.to_string(), "lost=false"]).unwrap();
    team.wait_running("fourth");
    assert_eq!(team.devices_of("fourth"), [device.as_str()]);
    assert!(taints().unwrap().is_null());
}

#[test]
fn a_server_that_drops_taints_is_not_offered_lost_devices() {
    if has_taints_and_more() {
        return eprintln!("Kubernetes {} keeps taints; see the test before", kubernetes());
    }
    let node = own("withheld", "mixed");
    let team = Team::new(&node, "withheld");
    team.run_with_one_gpu("training", &["devices"]);
    let held = team.devices_of("training").remove(0);
    for index in ["0", "1", "2"] {
        node.machine().run(&["set", index, "lost=true"]).unwrap();
    }
    let published = || -> Vec<String> {
        let slices = node.slices().unwrap();
        let devices = slices[0]["spec"]["devices"].as_array().cloned().unwrap_or_default();
        devices.iter().map(|device| device["name"].as_str().unwrap().to_owned()).collect()
    };
    eventually("only the device that a claim holds", || (published() == [held.clone()]).then_some(()));
    team.delete_pod("training");
    eventually("nothing, once it is free", || published().is_empty().then_some(()));
    for index in ["0", "1", "2"] {
        node.machine().run(&["set", index, "lost=false"]).unwrap();
    }
    node.wait_for_devices(3, PATIENCE).unwrap();
}

#[test]
fn a_node_without_a_driver_idles_and_looks_again() {
    let node = without_agent("no-driver", "dgx-h100");
    let library = node.machine().library();
    let aside = library.with_extension("aside");
    std::fs::rename(&library, &aside).unwrap();
    node.agent().start(&["--rescan", "0.5"]).unwrap();
    eventually("an empty slice", || {
        let slices = node.slices().unwrap();
        (slices.len() == 1 && slices[0]["spec"]["devices"].is_null()).then_some(())
    });
    std::fs::rename(&aside, &library).unwrap();
    node.wait_for_devices(8, PATIENCE).unwrap();
}

#[test]
fn devices_below_one_root_are_given_together() {
    let node = own("roots", "dgx-a100");
    let team = Team::new(&node, "pair");
    let wanted = json!({"devices": {
        "requests": [request("a", &[]), request("b", &[])],
        "constraints": [{"requests": ["a", "b"], "matchAttribute": "resource.kubernetes.io/pcieRoot"}],
    }});
    // The first GPU is taken, so that the first two that are free do not match.
    team.run_with_one_gpu("first", &["devices"]);
    let uses = [json!({"name": "pair", "resourceClaimName": "pair"})];
    team.apply(&[claim("pair", &wanted), pod("training", &uses, &[container("main", &["pair"], &["devices"])])]);
    team.wait_running("training");
    let devices = node.slices().unwrap()[0]["spec"]["devices"].clone();
    let root = |name: &str| {
        let device = devices.as_array().unwrap().iter().find(|device| device["name"] == name).unwrap();
        device["attributes"]["resource.kubernetes.io/pcieRoot"]["string"].clone()
    };
    let pair = team.devices_of("pair");
    assert_eq!((pair.len(), root(&pair[0])), (2, root(&pair[1])));
}

#[test]
fn a_device_is_not_given_away_while_a_pod_that_was_deleted_by_force_still_has_it() {
    let node = own("force", "mixed");
    let team = Team::new(&node, "force");
    let wanted = |cel: &str| json!({"devices": {"requests": [request("gpu", &[cel])]}});
    let one = wanted("device.attributes['gpu.nvidia.com'].productName.contains('T4')");
    let uses = |name: &str| [json!({"name": "gpu", "resourceClaimName": name})];
    team.apply(&[claim("old", &one), pod("old", &uses("old"), &[container("main", &["gpu"], &["devices"])])]);
    team.wait_running("old");
    let uid = team.uid_of("old");

    // Without a kubelet the container lives on, while the API server already calls the device free.
    node.cluster().kill_kubelet().unwrap();
    team.kubectl(&["delete", "pod", "old", "--grace-period=0", "--force"]);
    team.kubectl(&["delete", "resourceclaim", "old", "--timeout=60s"]);
    assert_eq!(team.files_of(&uid).len(), 2, "the agent still keeps the claim");
    team.apply(&[claim("new", &one), pod("new", &uses("new"), &[container("main", &["gpu"], &["devices"])])]);
    node.cluster().restart_kubelet().unwrap();
    // The kubelet first cleans up after the old pod, or asks for the new one and is refused, and then again only after
    // more than a minute: in the end the new one runs and nothing of the old one is left.
    team.wait_running_within(4 * PATIENCE, "new");
    eventually("the old claim's files are gone", || team.files_of(&uid).is_empty().then_some(()));
    assert_eq!(team.gpus_seen("new", "main").len(), 1);
}
