//! Labels of the node: those that tell pods what GPUs it has, and the one that chooses the device plugin's config.

use std::fs;
use std::path::Path;

use cluster::{Cluster, Signal};
use e2e::{Team, container, eventually, pod};
use serde_json::{Value, json};
use simulated_node::SimulatedNode;

const NODE_LABELS: &str = include_str!("../../../deploy/rights/feature-labels-node.yaml");
const NODE_FEATURES: &str = include_str!("../../../deploy/rights/feature-labels-nfd.yaml");
const CONFIG_BY_LABEL: &str = include_str!("../../../deploy/rights/config-by-label.yaml");

const PRODUCT: &str = "nvidia.com/gpu.product";
const H100: &str = "NVIDIA-H100-80GB-HBM3";
const CONFIG: &str = "nvidia.com/device-plugin.config";

/// The kind of objects that node-feature-discovery brings, without what its webhook and controllers add.
const NODE_FEATURE_KIND: &str = r#"{
    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
    "metadata": {"name": "nodefeatures.nfd.k8s-sigs.io"},
    "spec": {"group": "nfd.k8s-sigs.io", "scope": "Namespaced",
        "names": {"kind": "NodeFeature", "listKind": "NodeFeatureList", "plural": "nodefeatures", "singular": "nodefeature"},
        "versions": [{"name": "v1alpha1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
            "type": "object", "required": ["spec"], "properties": {"spec": {"type": "object", "properties": {
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "features": {"type": "object", "required": ["attributes", "flags", "instances"], "properties": {
                    "attributes": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "flags": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "instances": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}}}}}]}
}"#;

/// Tells the agent its namespace, as a pod is told: there its objects go.
fn name_namespace(node: &SimulatedNode) {
    let path =
        node.cluster().run_directory().join(Path::new(Cluster::AGENT_KUBECONFIG).strip_prefix("/run/cluster").unwrap());
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["contexts"][0]["context"]["namespace"] = json!("tessera-system");
    fs::write(&path, config.to_string()).unwrap();
}

/// The rights that flags of the agent need. The chart brings them with the values that need them.
fn give_rights(node: &SimulatedNode, manifests: &[&str]) {
    for manifest in manifests.iter().filter(|_| !e2e::by_chart()) {
        node.cluster().apply(manifest).unwrap();
    }
}

fn object(node: &SimulatedNode, arguments: &[&str]) -> Option<Value> {
    let arguments: Vec<_> = arguments.iter().copied().chain(["-o", "json"]).collect();
    serde_json::from_str(&node.cluster().kubectl_output(&arguments).ok()?).ok()
}

fn label(node: &SimulatedNode, key: &str) -> Option<String> {
    let found = object(node, &["get", "node", node.cluster().node_name()])?;
    found["metadata"]["labels"][key].as_str().map(str::to_owned)
}

/// What the agent may not do by itself, in the words of who refuses.
fn refused(node: &SimulatedNode, arguments: &[&str]) -> String {
    let kubeconfig = format!("--kubeconfig={}", Cluster::AGENT_KUBECONFIG);
    let arguments: Vec<_> = [&kubeconfig].into_iter().map(String::as_str).chain(arguments.iter().copied()).collect();
    let output = node.cluster().kubectl(&arguments).output().unwrap();
    assert!(!output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn pods_choose_a_node_by_the_labels_of_its_gpus() {
    let node = e2e::without_agent("features", "dgx-h100");
    let name = node.cluster().node_name();
    name_namespace(&node);
    node.cluster().apply(NODE_FEATURE_KIND).unwrap();
    give_rights(&node, &[NODE_LABELS, NODE_FEATURES]);
    e2e::start_agent(&node, &["--feature-labels", "node"]);
    eventually("labels", || (label(&node, PRODUCT)? == H100).then_some(()));
    assert_eq!(label(&node, "nvidia.com/gpu.machine").as_deref(), Some("DGXH100"));
    let team = Team::new(&node, "features");
    let mut chosen = pod("chosen", &[], &[container("main", &[], &["devices"])]);
    chosen["spec"]["nodeSelector"] = json!({PRODUCT: H100, "nvidia.com/gpu.count": "8"});
    team.apply(&[chosen]);
    team.wait_running("chosen");

    // A restart writes nothing; what changes is one write.
    let version = |node: &SimulatedNode| {
        let fields = object(node, &["get", "node", name, "--show-managed-fields"])?;
        let entries = fields["metadata"]["managedFields"].as_array()?.clone();
        let ours = entries.into_iter().find(|entry| entry["manager"] == "tessera-feature-labels")?;
        ours["time"].as_str().map(|time| (time.to_owned(), label(node, "nvidia.com/gfd.timestamp")))
    };
    let before = version(&node).unwrap();
    node.agent().stop(Signal::TERM).unwrap();
    e2e::start_agent(&node, &["--feature-labels", "node"]);
    node.machine().run(&["set", "3", "present=false"]).unwrap();
    eventually("one GPU less", || (label(&node, "nvidia.com/gpu.count")? == "7").then_some(()));
    assert_ne!(version(&node).unwrap(), before);
    node.agent().stop(Signal::TERM).unwrap();

    // The policy keeps the agent to its node and to these labels.
    node.cluster().apply(r#"{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "other"}}"#).unwrap();
    for (arguments, reason) in [
        (vec!["label", "node", "other", "nvidia.com/gpu.count=1"], "its own node only"),
        (vec!["label", "node", name, "kubernetes.io/role=a"], "the labels of its node's GPUs only"),
        (vec!["label", "node", name, "nvidia.com/mig.config=all-1g.10gb"], "the labels of its node's GPUs only"),
        (vec!["label", "node", name, "kubernetes.io/os-"], "the labels of its node's GPUs only"),
        (vec!["annotate", "node", name, "a=b"], "nothing of its node but labels"),
        (vec!["patch", "node", name, "-p", r#"{"spec": {"unschedulable": true}}"#], "nothing of its node but labels"),
        (vec!["patch", "node", name, "--subresource=status", "-p", r#"{"status": {"phase": "Running"}}"#], "forbidden"),
    ] {
        let told = refused(&node, &arguments);
        assert!(told.contains(reason), "{arguments:?}: {told}");
    }

    // The same by node-feature-discovery's object.
    e2e::start_agent(&node, &["--feature-labels", "node-feature"]);
    let own = format!("{name}-gpu-features");
    let found = eventually("a NodeFeature", || object(&node, &["get", "nodefeature", &own, "-n", "tessera-system"]));
    assert_eq!(
        (&found["spec"]["labels"][PRODUCT], &found["spec"]["labels"]["nvidia.com/gpu.count"]),
        (&json!(H100), &json!("7"))
    );
    assert_eq!(found["metadata"]["labels"]["nfd.node.kubernetes.io/node-name"], name);
    let other = json!({"apiVersion": "nfd.k8s-sigs.io/v1alpha1", "kind": "NodeFeature", "spec": found["spec"],
        "metadata": {"name": "other-gpu-features", "labels": {"nfd.node.kubernetes.io/node-name": "other"}}});
    let path = node.cluster().run_directory().join("other.json");
    fs::write(&path, other.to_string()).unwrap();
    let told = refused(&node, &["apply", "--server-side", "-n", "tessera-system", "-f", "/run/cluster/other.json"]);
    assert!(told.contains("the features of its own node only"), "{told}");
}

/// How many of a resource the node has for pods, as the API server was told.
fn allocatable(node: &SimulatedNode, resource: &str) -> Option<u32> {
    object(node, &["get", "node", node.cluster().node_name()])?["status"]["allocatable"][resource]
        .as_str()?
        .parse()
        .ok()
}

#[test]
fn a_label_chooses_what_a_node_offers_while_pods_run() {
    let node = e2e::without_agent("config-by-label", "dgx-h100");
    let name = node.cluster().node_name().to_owned();
    give_rights(&node, &[CONFIG_BY_LABEL]);
    let configs = node.cluster().run_directory().join("configs");
    fs::create_dir(&configs).unwrap();
    fs::write(configs.join("plain"), "version: v1\n").unwrap();
    let sliced = json!({"version": "v1", "sharing": {"timeSlicing": {
        "renameByDefault": true, "resources": [{"name": "nvidia.com/gpu", "devices": ["7"], "replicas": 4}],
    }}});
    fs::write(configs.join("sliced"), sliced.to_string()).unwrap();
    fs::write(configs.join("broken"), "flags: {migStrategy: both}\n").unwrap();
    let flags = ["--api", "device-plugin", "--config-file-srcdir", "/run/cluster/configs", "--default-config", "plain"];
    e2e::start_agent(&node, &flags);
    let wait = |resource: &str, count: u32| {
        eventually(&format!("{count} of {resource}"), || (allocatable(&node, resource)? == count).then_some(()));
    };
    let choose = |config: &str| {
        node.cluster().kubectl_output(&["label", "node", &name, "--overwrite", &format!("{CONFIG}={config}")]).unwrap();
    };
    wait("nvidia.com/gpu", 8);
    let team = Team::new(&node, "config-by-label");
    let mut main = container("main", &[], &["devices"]);
    main["resources"] = json!({"limits": {"nvidia.com/gpu": "2"}});
    team.apply(&[pod("runs-on", &[], &[main.clone()])]);
    team.wait_running("runs-on");
    let seen = team.gpus_seen("runs-on", "main");
    assert!(!seen.contains("/dev/nvidia7"), "the one that is to be shared: {seen:?}");

    choose("sliced");
    wait("nvidia.com/gpu.shared", 4);
    wait("nvidia.com/gpu", 7);
    choose("broken");
    let event = e2e::NodeEvent::wait(&node, "DevicePluginConfigRefused", "flags.migStrategy");
    let directory = if e2e::by_chart() { "/etc/tessera/device-plugin" } else { "/run/cluster/configs" };
    assert!(event.note.contains(&format!("{directory}/broken")), "{event:?}");
    wait("nvidia.com/gpu.shared", 4);
    node.cluster().kubectl_output(&["label", "node", &name, &format!("{CONFIG}-")]).unwrap();
    wait("nvidia.com/gpu", 8);
    assert_eq!(team.get("pod", "runs-on")["status"]["phase"], "Running");
    // What it has is still nobody else's.
    main["resources"] = json!({"limits": {"nvidia.com/gpu": "6"}});
    team.apply(&[pod("rest", &[], &[main])]);
    team.wait_running("rest");
    assert!(team.gpus_seen("rest", "main").is_disjoint(&seen));
}
