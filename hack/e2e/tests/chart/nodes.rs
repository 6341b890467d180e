//! Several nodes with Tessera installed by its chart: what each has, and what it cannot have of another.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use e2e::{PATIENCE, Team, Traffic, bare_nodes, claim, container, eventually, pod};
use serde_json::{Value, json};
use simulated_node::{NAMESPACE, SimulatedCluster, SimulatedNode};

use crate::registered::{Registered, allocate_last};

/// So many claims take turns on each node.
const CLAIMS: usize = 2;

/// Installs the chart and waits until every node has published its own devices, so many of them on each.
fn install(cluster: &SimulatedCluster, devices: &[usize]) {
    cluster.release().install(&[]).unwrap();
    cluster.release().wait_until_ready(PATIENCE).unwrap();
    for (node, devices) in cluster.nodes().iter().zip(devices) {
        node.wait_for_devices(*devices, PATIENCE).unwrap();
    }
}

/// The devices of a node's slices of GPUs, by name.
fn published(node: &SimulatedNode) -> BTreeSet<String> {
    let slices = node.slices().unwrap();
    let gpus = slices.iter().filter(|slice| slice["spec"]["driver"] == "gpu.nvidia.com");
    let devices = gpus.flat_map(|slice| slice["spec"]["devices"].as_array().cloned().unwrap_or_default());
    devices.map(|device| device["name"].as_str().unwrap().to_owned()).collect()
}

/// A claim for all GPUs of a node, and a pod there which uses it.
fn run_with_all(team: &Team<'_>, name: &str) {
    let all = json!({"devices": {"requests": [
        {"name": "gpus", "exactly": {"deviceClassName": "gpu.nvidia.com", "allocationMode": "All"}},
    ]}});
    let uses = json!({"name": "claim", "resourceClaimName": name});
    team.apply(&[claim(name, &all), pod(name, &[uses], &[container("main", &["claim"], &["devices"])])]);
    team.wait_running(name);
}

fn agent_pod(node: &SimulatedNode) -> Value {
    let of_node = format!("--field-selector=spec.nodeName={}", node.cluster().node_name());
    let agents = "--selector=app.kubernetes.io/component=agent";
    let pods = ["get", "pods", "--namespace", NAMESPACE, agents, "-o", "json", &of_node];
    let pods: Value = serde_json::from_str(&node.cluster().kubectl_output(&pods).unwrap()).unwrap();
    pods["items"].as_array().unwrap().first().expect("no agent").clone()
}

/// The token that the API server knows a node's agent by, as the kubelet keeps it for the pod.
fn token(node: &SimulatedNode) -> String {
    let uid = agent_pod(node)["metadata"]["uid"].as_str().unwrap().to_owned();
    let volumes = format!("var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~projected");
    let volumes = fs::read_dir(node.cluster().node_root().join(volumes)).unwrap().flatten();
    let tokens = volumes.filter_map(|volume| fs::read_to_string(volume.path().join("token")).ok());
    tokens.last().expect("the agent has no token")
}

#[test]
fn each_node_gives_its_own_devices_and_its_agent_touches_no_other_nodes_slices() {
    let cluster = bare_nodes("three", &["dgx-h100", "h100x16", "nvidia-tpu"]);
    install(&cluster, &[8, 16, 6]);
    let [eight, sixteen, two] = [0, 1, 2].map(|number| &cluster.nodes()[number]);
    for (node, gpus) in [(eight, 8), (sixteen, 16), (two, 2)] {
        let name = node.cluster().node_name();
        let team = Team::new(node, &format!("all-of-{name}"));
        run_with_all(&team, "all");
        let wanted: BTreeSet<_> = (0..gpus).map(|number| format!("/dev/nvidia{number}")).collect();
        assert_eq!(team.gpus_seen("all", "main"), wanted, "{name}");
        assert_eq!(team.devices_of("all").into_iter().collect::<BTreeSet<_>>(), published(node), "{name}");
        let given = team.get("resourceclaim", "all");
        let results = given["status"]["allocation"]["devices"]["results"].as_array().unwrap();
        assert!(results.iter().all(|result| result["pool"] == format!("{name}/gpu.nvidia.com")), "{results:#?}");
        // And nothing of it is anywhere else.
        let uid = team.uid_of("all");
        for other in cluster.nodes() {
            let there = Team::files_on(other, &uid).len();
            assert_eq!(there, if other.cluster().node_name() == name { 2 } else { 0 });
        }
    }

    // The token of the agent's pod on one node, and the slices of another.
    let (token, name) = (token(sixteen), sixteen.cluster().node_name());
    let run = |arguments: &[&str]| {
        let token = format!("--token={token}");
        let output = cluster.cluster().kubectl(&[&[token.as_str()], arguments].concat()).output().unwrap();
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        if output.status.success() { Ok(said) } else { Err(said) }
    };
    let who = run(&["auth", "whoami", "-o", "json"]).unwrap();
    assert!(who.contains("serviceaccount:tessera-system:tessera-agent") && who.contains(name), "{who}");
    let slice_of = |node: &SimulatedNode| node.slices().unwrap().swap_remove(0);
    let replace = |slice: &Value| {
        let mut slice = slice.clone();
        slice["spec"]["pool"]["generation"] = json!(slice["spec"]["pool"]["generation"].as_i64().unwrap() + 1);
        fs::write(cluster.cluster().run_directory().join("slice.json"), slice.to_string()).unwrap();
        run(&["replace", "-f", "/run/cluster/slice.json"])
    };
    let foreign = slice_of(eight);
    let foreign_name = foreign["metadata"]["name"].as_str().unwrap();
    let refusal = format!("on node {name} may not write slices of node \"node-1\"");
    // A policy is enforced some seconds after it was stored.
    eventually("the policy is enforced", || replace(&foreign).is_err().then_some(()));
    for (what, answer) in [
        ("replace", replace(&slice_of(eight))),
        ("delete", run(&["delete", "resourceslice", foreign_name])),
        ("delete of the third's", run(&["delete", "resourceslices", "--field-selector=spec.nodeName=node-3"])),
    ] {
        let refused = answer.expect_err(what);
        let refusal = if what == "delete of the third's" { &refusal.replace("node-1", "node-3") } else { &refusal };
        assert!(refused.contains(refusal), "{what}: {refused}");
    }
    replace(&slice_of(sixteen)).unwrap();
}

#[test]
fn a_node_that_was_away_serves_again() {
    let cluster = bare_nodes("away", &["dgx-h100", "h100x16"]);
    install(&cluster, &[8, 16]);
    let (stays, goes) = (&cluster.nodes()[0], &cluster.nodes()[1]);
    let [devices, boot] =
        [goes.slices().unwrap()[0]["spec"]["devices"].clone(), json!(goes.cluster().boot_id().unwrap())];
    let team = Team::new(goes, "away");
    run_with_all(&team, "before");
    let uid = team.uid_of("before");
    assert_eq!(team.files_of(&uid).len(), 2);
    let untouched = stays.slices().unwrap();
    let agent = agent_pod(goes)["metadata"]["uid"].clone();

    goes.power_off().unwrap();
    let other = Team::new(stays, "meanwhile");
    run_with_all(&other, "meanwhile");
    // It comes back with less than it had.
    goes.machine().run(&["set", "15", "present=false"]).unwrap();
    goes.power_on().unwrap();

    let told = ["get", "node", goes.cluster().node_name(), "-o=jsonpath={.status.nodeInfo.bootID}"];
    let now = json!(cluster.cluster().kubectl_output(&told).unwrap());
    assert!(now != boot && now == goes.cluster().boot_id().unwrap(), "{now} after {boot}");
    // What was written before the boot is forgotten, and the claim has no files until its pod is made anew.
    team.delete_pod("before");
    eventually("nothing is left of the claim", || team.files_of(&uid).is_empty().then_some(()));
    eventually("the slices say what is there now", || {
        let slices = goes.slices().unwrap();
        (slices.len() == 1 && slices[0]["spec"]["devices"].as_array().unwrap().len() == 15).then_some(())
    });
    assert_eq!(agent_pod(goes)["metadata"]["uid"], agent, "the same pod, whose containers were started again");
    run_with_all(&team, "after");
    assert_eq!(team.gpus_seen("after", "main").len(), 15);
    goes.machine().run(&["set", "15", "present=true"]).unwrap();
    eventually("the slices are as they were", || {
        (goes.slices().unwrap()[0]["spec"]["devices"] == devices).then_some(())
    });
    assert_eq!(stays.slices().unwrap(), untouched, "nobody wrote the other node's");
    other.kubectl(&["wait", "--for=condition=Ready", "pod/meanwhile", "--timeout=5s"]);
}

#[test]
fn an_upgrade_rolls_over_three_nodes_and_fails_no_prepare() {
    let cluster = bare_nodes("rolling", &["h100x16"; 3]);
    install(&cluster, &[16; 3]);
    let teams: Vec<_> =
        (1..=3).zip(cluster.nodes()).map(|(number, node)| Team::new(node, &format!("team-{number}"))).collect();
    let mut claims = Vec::new();
    for (team, node) in teams.iter().zip(cluster.nodes()) {
        claims.push(allocate_last(node, team, CLAIMS));
        team.run_with_one_gpu("training", &["devices"]);
    }
    let over = AtomicBool::new(false);
    let traffic = std::thread::scope(|scope| {
        let traffic: Vec<_> = cluster
            .nodes()
            .iter()
            .zip(&claims)
            .map(|(node, claims)| {
                let over = &over;
                scope.spawn(move || {
                    let mut newest = Registered::on(node);
                    (Traffic::until(over, claims, &mut newest), newest.agents)
                })
            })
            .collect();
        let upgrade = scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(1));
            cluster.release().install(&["agent.log.filter=info\\,tessera_agent=debug"]).unwrap();
            cluster.release().wait_until_ready(3 * PATIENCE).unwrap();
            for (number, team) in teams.iter().enumerate() {
                team.run_with_one_gpu(&format!("upgraded-{number}"), &["devices"]);
            }
        });
        let upgraded = upgrade.join();
        over.store(true, Ordering::Relaxed);
        let traffic: Vec<_> = traffic.into_iter().map(|thread| thread.join().unwrap()).collect();
        upgraded.unwrap();
        traffic
    });
    for ((traffic, agents), node) in traffic.iter().zip(cluster.nodes()) {
        println!("{}: {} claims prepared, by {} agents", node.cluster().node_name(), traffic.prepared, agents.len());
        traffic.assert_whole();
        assert_eq!(agents.len(), 2, "the one before and the one after: {agents:?}");
    }
    for (team, claims) in teams.iter().zip(&claims) {
        assert!(!team.kubectl(&["get", "events"]).contains("FailedPrepareDynamicResources"));
        assert!(claims.iter().all(|claim| team.files_of(&claim.uid).is_empty()));
    }
}
