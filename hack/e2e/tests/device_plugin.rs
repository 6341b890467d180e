//! Pods that ask for devices by count, with the stock kubelet; beside claims, too.

use std::collections::{BTreeMap, BTreeSet};

use cluster::Signal;
use e2e::{Team, container, eventually, one_gpu, own_with, pod, start_agent, template, without_agent};
use serde_json::{Value, json};
use simulated_node::SimulatedNode;

const GPU: &str = "nvidia.com/gpu";
const SHARED: &str = "nvidia.com/gpu.shared";

/// A pod whose container asks for so many of a resource, and prints what it sees.
fn asking(name: &str, resource: &str, count: u32) -> Value {
    let mut main = container("main", &[], &["devices", "env", "echo over"]);
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

/// Waits until so many devices are no claim's, since pods have them by count.
fn wait_lent(node: &SimulatedNode, count: usize) {
    eventually(&format!("{count} devices that are lent"), || {
        let slices = node.slices().unwrap();
        let devices = slices.iter().flat_map(|slice| slice["spec"]["devices"].as_array().into_iter().flatten());
        let lent = devices.filter(|device| device["taints"].to_string().contains("tessera.dev/lent")).count();
        // Servers that keep no taints are not told of the device at all.
        (!e2e::has_taints_and_more() || lent == count).then_some(())
    });
}

/// Those of the pods with this label that run, once each of them runs, has failed or was told what is in its way.
fn wait_decided(team: &Team<'_>, label: &str) -> Vec<String> {
    let list = |arguments: &[&str]| -> Vec<Value> {
        let list: Value = serde_json::from_str(&team.kubectl(&[arguments, &["-o", "json"]].concat())).unwrap();
        list["items"].as_array().unwrap().clone()
    };
    let name = |pod: &Value| pod["metadata"]["name"].as_str().unwrap().to_owned();
    eventually(&format!("what becomes of the pods {label}"), || {
        let pods = list(&["get", "pods", "-l", label]);
        let (running, others): (Vec<_>, Vec<_>) = pods.iter().partition(|pod| pod["status"]["phase"] == "Running");
        let waiting: Vec<_> = others.into_iter().filter(|pod| pod["status"]["phase"] == "Pending").map(name).collect();
        if !waiting.is_empty() {
            let events = list(&["get", "events", "--field-selector", "type=Warning"]);
            let told: BTreeSet<_> =
                events.iter().filter_map(|event| event["involvedObject"]["name"].as_str()).collect();
            if !waiting.iter().all(|pod| told.contains(pod.as_str())) {
                return None;
            }
        }
        Some(running.into_iter().map(name).collect())
    })
}

/// The agent ends, and another one with these arguments takes its place.
fn replace_agent(node: &SimulatedNode, arguments: &[&str]) {
    node.agent().stop(Signal::TERM).unwrap();
    start_agent(node, arguments);
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
    let node = without_agent("replicas", "dgx-h100");
    let config = json!({"version": "v1", "sharing": {"timeSlicing": {
        "renameByDefault": true, "resources": [{"name": GPU, "devices": 1, "replicas": 4}],
    }}});
    std::fs::write(node.cluster().run_directory().join("device-plugin.yaml"), config.to_string()).unwrap();
    start_agent(&node, &["--api", "device-plugin", "--config-file", "/run/cluster/device-plugin.yaml"]);
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
        wait_lent(&node, usize::try_from(round).unwrap() + 1);
    }
    let all: BTreeSet<_> = owned.iter().flatten().collect();
    assert_eq!((owned.iter().all(|one| one.len() == 1), all.len()), (true, 8), "{owned:?}");
    // All go, and either way all can be had again.
    team.clear();
    wait_allocatable(&node, GPU, 8);
    team.apply(&[asking("all", GPU, 8)]);
    team.wait_running("all");
}

/// Ten pods at a time, each with a claim or by count, beside some of those that came before. Those who choose devices for
/// them, the scheduler and the kubelet, know of each other late: some pods lose and do not run. Of those that run, no two
/// ever see the same GPU.
#[test]
fn of_two_hundred_random_pods_no_two_see_the_same_gpu() {
    let node = own_with("random-owners", "h100x16", &["--api", "both"]);
    let team = Team::new(&node, "random");
    wait_allocatable(&node, GPU, 16);
    team.apply(&[template("one", &one_gpu())]);
    let uses = json!({"name": "claim", "resourceClaimTemplateName": "one"});
    let mut rng = fastrand::Rng::with_seed(1);
    let mut owned: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let (mut claimed, mut counted) = (0, 0);
    for round in 0..20 {
        let pods: Vec<Value> = (0..10)
            .map(|number| {
                let mut pod = if rng.bool() {
                    let main = container("main", &["claim"], &["devices"]);
                    pod(&format!("claimed-{round}-{number}"), std::slice::from_ref(&uses), &[main])
                } else {
                    asking(&format!("counted-{round}-{number}"), GPU, 1)
                };
                pod["metadata"]["labels"] = json!({"round": round.to_string()});
                pod
            })
            .collect();
        team.apply(&pods);
        let ran = wait_decided(&team, &format!("round={round}"));
        eprintln!("round {round}: {} of 10 run", ran.len());
        for name in ran {
            *(if name.starts_with("claimed") { &mut claimed } else { &mut counted }) += 1;
            let seen = team.gpus_seen(&name, "main");
            let other = owned.iter().find(|(_, gpus)| !gpus.is_disjoint(&seen));
            assert!(seen.len() == 1 && other.is_none(), "{name} sees {seen:?}, and {other:?}");
            owned.insert(name, seen);
        }
        // So few stay that the next ones may all run; those that lost go, too.
        let mut stay: Vec<String> = owned.keys().cloned().collect();
        rng.shuffle(&mut stay);
        stay.truncate(rng.usize(..=6));
        owned.retain(|name, _| stay.contains(name));
        let all = team.kubectl(&["get", "pods", "-o", "name"]);
        let gone = |name: &&str| !stay.iter().any(|pod| name.ends_with(&format!("/{pod}")));
        let gone: Vec<&str> = all.lines().filter(gone).collect();
        team.kubectl(&[&["delete", "--timeout=90s"], &gone[..]].concat());
    }
    eprintln!("{claimed} pods ran with a claim and {counted} by count");
    assert!(claimed > 20 && counted > 20, "{claimed} pods ran with a claim and {counted} by count");
}

#[test]
fn mig_devices_are_resources_of_their_own_or_called_as_gpus() {
    let node = without_agent("mig-by-count", "mixed");
    for command in [
        &["mig", "0", "on"][..],
        &["reset", "0"],
        &["mig", "0", "create", "1g.6gb@0"],
        &["mig", "0", "create", "1g.6gb@1"],
    ] {
        node.machine().run(command).unwrap();
    }
    start_agent(&node, &["--api", "both", "--mig-strategy", "mixed"]);
    let team = Team::new(&node, "mig");
    let small = "nvidia.com/mig-1g.6gb";
    wait_allocatable(&node, small, 2);
    wait_allocatable(&node, GPU, 2);
    team.apply(&[asking("one", small, 1), asking("two", small, 1), asking("whole", GPU, 2)]);
    let capabilities = ["one", "two"].map(|name| {
        team.wait_running(name);
        assert_eq!(team.gpus_seen(name, "main"), BTreeSet::from(["/dev/nvidia0".to_owned()]));
        team.capabilities_seen(name, "main")
    });
    assert!(capabilities.iter().all(|one| one.len() == 2), "{capabilities:?}");
    assert!(capabilities[0].is_disjoint(&capabilities[1]), "{capabilities:?}");
    team.wait_running("whole");
    assert!(team.capabilities_seen("whole", "main").is_empty());
    wait_lent(&node, 4);

    // Called as GPUs are, where claims have the others. What pods have under another name is given to nobody meanwhile.
    let single =
        ["--api", "device-plugin", "--mig-strategy", "single", "--device-api", "0000:5e:00.0=dra,0000:af:00.0=dra"];
    replace_agent(&node, &single);
    wait_allocatable(&node, GPU, 0);
    team.delete_pod("one");
    wait_allocatable(&node, GPU, 1);
    team.clear();
    wait_allocatable(&node, GPU, 2);
    team.apply(&[asking("both", GPU, 2)]);
    team.wait_running("both");
    assert_eq!(team.capabilities_seen("both", "main").len(), 4);
}

#[test]
fn a_pod_gets_chips_that_lie_together() {
    let node = own_with("tpu-by-count", "nvidia-tpu", &["--api", "device-plugin"]);
    let team = Team::new(&node, "tpu");
    let chips = "google.com/tpu";
    wait_allocatable(&node, chips, 4);
    wait_allocatable(&node, GPU, 2);
    team.apply(&[asking("first", chips, 2), asking("second", chips, 2), asking("gpus", GPU, 2)]);
    let groups = ["first", "second"].map(|name| {
        team.wait_running(name);
        let environment = team.environment_seen(name, "main");
        assert_eq!(environment["TPU_CHIPS_PER_PROCESS_BOUNDS"], "1,2,1");
        team.vfio_groups_seen(name, "main")
    });
    assert!(groups.iter().all(|one| one.len() == 2) && groups[0].is_disjoint(&groups[1]), "{groups:?}");
    team.wait_running("gpus");
}

/// The ways that need nothing of NVIDIA's on the node: by annotations, and by device nodes alone.
#[test]
fn a_container_gets_its_gpu_by_the_way_that_was_chosen() {
    let node = own_with("ways", "dgx-h100", &["--api", "device-plugin", "--device-list-strategy", "cdi-annotations"]);
    let team = Team::new(&node, "ways");
    wait_allocatable(&node, GPU, 8);
    team.apply(&[asking("annotated", GPU, 1)]);
    team.wait_running("annotated");
    let annotated = team.gpus_seen("annotated", "main");
    assert_eq!(annotated.len(), 1);

    replace_agent(&node, &["--api", "device-plugin", "--device-list-strategy", "envvar", "--pass-device-specs"]);
    wait_allocatable(&node, GPU, 8);
    team.apply(&[asking("specified", GPU, 1)]);
    team.wait_running("specified");
    let specified = team.gpus_seen("specified", "main");
    assert!(specified.len() == 1 && specified.is_disjoint(&annotated), "{specified:?} {annotated:?}");
    assert!(team.nodes_seen("specified", "main").contains("/dev/nvidiactl"));
    assert!(team.environment_seen("specified", "main")["NVIDIA_VISIBLE_DEVICES"].starts_with("GPU-"));
}

/// From the device plugin over both to claims: nobody is drained, a pod keeps its GPU over starts of its container and of
/// the kubelet, and no claim gets that GPU before the pod has ended.
#[test]
fn a_node_goes_over_to_claims_without_a_drain() {
    let node = own_with("hand-over", "dgx-h100", &["--api", "device-plugin"]);
    let team = Team::new(&node, "hand-over");
    wait_allocatable(&node, GPU, 8);
    let mut stays = asking("stays", GPU, 1);
    stays["spec"]["restartPolicy"] = json!("Always");
    stays["spec"]["volumes"] = json!([{"name": "signals", "emptyDir": {}}]);
    stays["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "signals", "mountPath": "/signals"}]);
    stays["spec"]["containers"][0]["args"] = json!(["devices", "--then", "wait-for", "/signals/end"]);
    // What only a container has that prepares a pod, the kubelet lists nowhere.
    let mut prepares = asking("prepares", GPU, 1);
    prepares["spec"]["initContainers"] = prepares["spec"]["containers"].clone();
    prepares["spec"]["initContainers"][0]["name"] = json!("first");
    prepares["spec"]["containers"] = json!([container("main", &[], &["devices"])]);
    team.apply(&[stays, prepares]);
    team.wait_running("stays");
    let own = team.gpus_seen("stays", "main");
    team.log("prepares", "first", "/dev/nvidiactl");

    replace_agent(&node, &["--api", "both"]);
    wait_lent(&node, 2);
    replace_agent(&node, &["--api", "dra"]);
    wait_lent(&node, 2);
    wait_allocatable(&node, GPU, 0);
    node.cluster().restart_kubelet().unwrap();
    let starts = || team.get("pod", "stays")["status"]["containerStatuses"][0]["restartCount"].as_u64();
    let before = starts();
    let claimed: BTreeSet<_> = (0..6)
        .map(|number| {
            let name = format!("claimed-{number}");
            team.run_with_one_gpu(&name, &["devices"]);
            team.gpus_seen(&name, "main").pop_first().unwrap()
        })
        .collect();
    assert_eq!((claimed.len(), claimed.is_disjoint(&own)), (6, true), "{claimed:?} {own:?}");
    let uid = team.get("pod", "stays")["metadata"]["uid"].as_str().unwrap().to_owned();
    let signals = format!("var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~empty-dir/signals");
    let end = node.cluster().node_root().join(signals).join("end");
    std::fs::write(&end, "").unwrap();
    eventually("the container starts again", || (starts() > before).then_some(()));
    std::fs::remove_file(end).unwrap();
    team.wait_running("stays");
    assert_eq!(team.gpus_seen("stays", "main"), own);
    wait_lent(&node, 2);
    team.delete_pod("prepares");
    wait_lent(&node, 1);
    team.delete_pod("stays");
    wait_lent(&node, 0);
    team.run_with_one_gpu("last", &["devices"]);
}
