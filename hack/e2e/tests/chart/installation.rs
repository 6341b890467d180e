//! Tessera installed by its chart: the agent is a pod of the image that is shipped.

use std::collections::BTreeSet;
use std::time::Instant;

use e2e::{PATIENCE, Team, bare, claim, eventually, request_of, within};
use serde_json::{Value, json};
use simulated_node::{NAMESPACE, SimulatedNode};

use crate::examples::{folders, run};
use crate::registered;

/// So many claims take turns, so that each stays prepared for a while.
const CLAIMS: usize = 4;

fn agent_pods(node: &SimulatedNode) -> Vec<Value> {
    let pods = node
        .cluster()
        .kubectl_output(&[
            "get",
            "pods",
            "--namespace",
            NAMESPACE,
            "-l",
            "app.kubernetes.io/component=agent",
            "-o",
            "json",
        ])
        .unwrap();
    let pods: Value = serde_json::from_str(&pods).unwrap();
    pods["items"].as_array().unwrap().clone()
}

fn stamps(node: &SimulatedNode) -> Vec<(Value, Value)> {
    let stamp = |slice: &Value| (slice["metadata"]["uid"].clone(), slice["metadata"]["resourceVersion"].clone());
    node.slices().unwrap().iter().map(stamp).collect()
}

#[test]
fn a_node_is_served_upgraded_and_rolled_back_without_a_failed_prepare() {
    let node = bare("chart", "h100x16");
    let release = node.release();
    let started = Instant::now();
    release.install(&[]).unwrap();
    release.wait_until_ready(PATIENCE).unwrap();
    println!("{:?} from nothing to ready", started.elapsed());
    node.wait_for_devices(16, PATIENCE).unwrap();
    let pods = agent_pods(&node);
    assert_eq!(pods.len(), 1);
    assert_eq!(pods[0]["spec"]["priorityClassName"], "system-node-critical");

    // Its container's loader finds the driver's libraries: by the hook, which the agent's pod has put on the node.
    let team = Team::new(&node, "chart");
    team.run_with_one_gpu("training", &["devices", "cat /etc/ld.so.conf.d/00-tessera.conf"]);
    assert_eq!(team.gpus_seen("training", "main").len(), 1);

    let slices = stamps(&node);
    let claims = registered::allocate_last(&node, &team, CLAIMS);
    let (traffic, agents) = registered::traffic_during(&node, &claims, || {
        release.install(&["agent.log.filter=info\\,tessera_agent=debug"]).unwrap();
        release.wait_until_ready(PATIENCE).unwrap();
        // A pod besides, through the real kubelet, served by the new agent.
        team.run_with_one_gpu("upgraded", &["devices"]);
        release.roll_back().unwrap();
        release.wait_until_ready(PATIENCE).unwrap();
        team.run_with_one_gpu("rolled-back", &["devices"]);
    });
    println!("{} claims prepared, by {} agents", traffic.prepared, agents.len());
    traffic.assert_whole();
    assert_eq!(agents.len(), 3, "the first, the upgraded, the one from before again: {agents:?}");
    assert!(!team.kubectl(&["get", "events"]).contains("FailedPrepareDynamicResources"));
    assert_eq!(stamps(&node), slices, "not a single write");
    assert!(claims.iter().all(|claim| team.files_of(&claim.uid).is_empty()));
    // What the first agent prepared, the third undoes.
    let uid = team.uid_of("training");
    team.delete_pod("training");
    eventually("the files of the claim are gone", || team.files_of(&uid).is_empty().then_some(()));
}

#[test]
fn tpus_are_served_without_any_privilege() {
    let node = bare("confined", "tpu-v5e");
    node.release().install(&["drivers.serve={tpu}", "agent.hook.enabled=false"]).unwrap();
    node.release().wait_until_ready(PATIENCE).unwrap();
    let context = agent_pods(&node)[0]["spec"]["containers"][0]["securityContext"].clone();
    let wanted = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
    });
    assert_eq!(context, wanted);
    let team = Team::new(&node, "confined");
    let chip = json!({"devices": {"requests": [request_of("tpu.google.com", "chip", &[])]}});
    team.start("training", &chip, &["devices"]);
    team.wait_running("training");
    let uid = team.uid_of("training");
    assert_eq!(team.files_of(&uid).len(), 2, "a CDI spec and a record");
    team.delete_pod("training");
    eventually("nothing is left", || team.files_of(&uid).is_empty().then_some(()));
    let example = folders().into_iter().find(|folder| folder.ends_with("tpu")).unwrap();
    run(&node, &example);
}

/// A claim whose config says something that is not known.
fn misspelt() -> Value {
    let parameters = json!({"apiVersion": "resource.nvidia.com/v1beta1", "kind": "GpuConfig", "sharring": {}});
    let config = json!({"opaque": {"driver": "gpu.nvidia.com", "parameters": parameters}});
    let devices = json!({"requests": [request_of("gpu.nvidia.com", "gpu", &[])], "config": [config]});
    claim("misspelt", &json!({"devices": devices}))
}

#[test]
fn what_is_to_be_stored_is_judged_by_way_of_the_service() {
    let node = bare("judged", "dgx-h100");
    node.release().install(&["admission.webhook.failurePolicy=Fail"]).unwrap();
    node.release().wait_until_ready(PATIENCE).unwrap();
    let refused = eventually("the claim to be refused", || {
        let asked = node.cluster().apply(&misspelt().to_string());
        Some(format!("{:#}", asked.err()?)).filter(|refused| refused.contains("sharring"))
    });
    println!("{refused}");
    Team::new(&node, "judged").run_with_one_gpu("training", &["devices"]);
}

#[test]
fn a_class_that_somebody_has_edited_is_put_right_and_the_next_release_may_change_it() {
    let node = bare("classes", "dgx-h100");
    node.release().install(&[]).unwrap();
    node.release().wait_until_ready(PATIENCE).unwrap();
    let class = || -> Value {
        let class = ["get", "deviceclass", "gpu.nvidia.com", "-o", "json", "--show-managed-fields"];
        serde_json::from_str(&node.cluster().kubectl_output(&class).unwrap()).unwrap()
    };
    // An older server does not keep what extended resource a class stands for.
    let spec = class()["spec"].clone();
    let is_ours = |class: &Value| class["spec"] == spec;
    let edit = r#"{
        "spec": {"extendedResourceName": "example.com/gpu", "selectors": [{"cel": {"expression": "true"}}]},
        "metadata": {"labels": {"theirs": "1"}}
    }"#;
    node.cluster().kubectl_output(&["patch", "deviceclass", "gpu.nvidia.com", "--type=merge", "-p", edit]).unwrap();
    let managers = |class: &Value| {
        let managers = class["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        managers.iter().map(|one| one["manager"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    eventually("the class to be put right, and to be nobody's but Helm's", || {
        let class = class();
        (is_ours(&class) && !managers(&class).contains(&"tessera-controller".to_owned())).then_some(())
    });
    // The next release says something else of it, and so does the one after that.
    node.release().change(&["deviceClasses.extendedResources.gpu="]).unwrap();
    eventually("the class of the next release", || class()["spec"]["extendedResourceName"].is_null().then_some(()));
    node.release().roll_back().unwrap();
    eventually("the class of the release before", || is_ours(&class()).then_some(()));
    assert_eq!(class()["metadata"]["labels"]["theirs"], "1", "what others have added is theirs");
}

#[test]
fn what_is_left_of_a_node_that_is_gone_is_removed_where_nobody_else_does() {
    let node = bare("leftovers", "dgx-h100");
    node.release().install(&["controller.leftovers=5"]).unwrap();
    node.release().wait_until_ready(PATIENCE).unwrap();
    node.wait_for_devices(8, PATIENCE).unwrap();
    let cluster = node.cluster();
    cluster.stop_controller_manager().unwrap();
    let own = stamps(&node);
    let names = || -> BTreeSet<String> {
        let names = cluster.kubectl_output(&["get", "resourceslices", "-o", "name"]).unwrap();
        names.lines().filter_map(|name| Some(name.rsplit_once('/')?.1.to_owned())).collect()
    };
    let mut expected = names();
    let left = |name: &str, driver: &str, uid: &str| {
        json!({
            "apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice",
            "metadata": {
                "name": name,
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "gone", "uid": uid, "controller": true}],
            },
            "spec": {
                "driver": driver, "nodeName": "gone", "devices": [{"name": "gpu-0"}],
                "pool": {"name": "gone", "generation": 1, "resourceSliceCount": 1},
            },
        })
    };
    let uid = "5d4e2a0c-6a8e-4e64-9d0c-0f6b3c1f2a11";
    cluster.apply(&left("left", "gpu.nvidia.com", uid).to_string()).unwrap();
    cluster.apply(&left("of-another-driver", "gpu.example.com", uid).to_string()).unwrap();
    assert!(names().contains("left"));
    // It might be a node that is only made anew: it is removed when it has been left for a minute.
    within(PATIENCE * 2, "what is left to be removed", || (!names().contains("left")).then_some(()));
    expected.insert("of-another-driver".to_owned());
    assert_eq!(names(), expected);
    assert_eq!(stamps(&node), own);
}
