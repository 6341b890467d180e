//! What an agent's token can do to the slices of others, and the controller's to nodes and to slices that are no domain's:
//! nothing.

use cluster::Identity;
use e2e::{eventually, shared};
use serde_json::{Value, json};
use simulated_node::plain_manifests;

const AGENT: [&str; 2] = ["tessera-system", "tessera-agent"];

fn slice(name: &str, node: &str, driver: &str) -> Value {
    json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": name},
        "spec": {"driver": driver, "nodeName": node, "pool": {"name": name, "generation": 1, "resourceSliceCount": 1}},
    })
}

#[test]
fn an_agents_token_writes_the_slices_of_its_own_node_and_of_no_other() {
    let cluster = shared().cluster();
    let agent = || Identity::service_account(AGENT[0], AGENT[1]);
    let kubeconfigs =
        [("node-a", agent().on_node("node-a")), ("node-b", agent().on_node("node-b")), ("nowhere", agent())]
            .map(|(name, identity)| cluster.kubeconfig_for(name, &identity).unwrap());
    let [node_a, node_b, nowhere] = kubeconfigs.each_ref().map(|path| format!("--kubeconfig={}", path.display()));
    // What came of it: nothing, or the server's reason.
    let run = |kubeconfig: &str, arguments: &[&str]| -> Result<(), String> {
        let arguments = [arguments, &[kubeconfig]].concat();
        cluster.kubectl_output(&arguments).map(drop).map_err(|error| format!("{error:#}"))
    };
    let file = |slice: &Value| {
        let name = slice["metadata"]["name"].as_str().unwrap();
        std::fs::write(cluster.run_directory().join(format!("{name}.json")), slice.to_string()).unwrap();
        format!("/run/cluster/{name}.json")
    };
    let create = |kubeconfig: &str, slice: &Value| run(kubeconfig, &["create", "-f", &file(slice)]);
    let delete = |kubeconfig: &str, name: &str| run(kubeconfig, &["delete", "resourceslice", name]);
    let driver = "gpu.nvidia.com";

    // A policy is enforced some seconds after it was stored.
    let of_a = slice("of-a", "node-a", driver);
    eventually("the policy is enforced", || {
        let refused = create(&node_b, &of_a);
        if refused.is_ok() {
            delete(&format!("--kubeconfig={}", cluster::Cluster::ADMIN_KUBECONFIG), "of-a").unwrap();
        }
        refused.err()
    });
    let refused = create(&node_b, &of_a).unwrap_err();
    assert!(refused.contains("on node node-b may not write slices of node \"node-a\""), "{refused}");
    let refused = create(&nowhere, &of_a).unwrap_err();
    assert!(refused.contains("must be bound to a pod"), "{refused}");
    let refused = create(&node_a, &slice("foreign", "node-a", "gpu.example.com")).unwrap_err();
    assert!(refused.contains("may not write slices of driver gpu.example.com"), "{refused}");
    // Of all nodes, and so of every node's scheduling.
    let mut of_all = slice("of-all", "node-a", driver);
    of_all["spec"].as_object_mut().unwrap().remove("nodeName");
    of_all["spec"]["allNodes"] = json!(true);
    let refused = create(&node_a, &of_all).unwrap_err();
    assert!(refused.contains("may not write slices of node \"\""), "{refused}");

    create(&node_a, &of_a).unwrap();
    let taken = json!({"spec": {"pool": {"generation": 2}}}).to_string();
    let patch = |kubeconfig: &str| run(kubeconfig, &["patch", "resourceslice", "of-a", "--type=merge", "-p", &taken]);
    let mut replaced = of_a.clone();
    replaced["spec"]["pool"]["generation"] = json!(2);
    let replace = |kubeconfig: &str| run(kubeconfig, &["replace", "-f", &file(&replaced)]);
    let real = shared().slices().unwrap()[0]["metadata"]["name"].as_str().unwrap().to_owned();
    for (what, refused) in [
        ("replace", replace(&node_b)),
        ("delete", delete(&node_b, "of-a")),
        ("delete a real one", delete(&node_a, &real)),
    ] {
        let refused = refused.expect_err(what);
        assert!(refused.contains("may not write slices of node"), "{what}: {refused}");
    }
    // RBAC gives no more than is needed.
    let refused = patch(&node_a).unwrap_err();
    assert!(refused.contains("is forbidden") && !refused.contains("tessera-agent-slices"), "{refused}");
    replace(&node_a).unwrap();
    delete(&node_a, "of-a").unwrap();
}

#[test]
fn the_controllers_token_writes_what_is_of_fabric_domains_and_nothing_else() {
    let cluster = shared().cluster();
    let [(_, manifests), _] = plain_manifests().unwrap();
    for name in ["controller-rbac.yaml", "controller-domains.yaml"] {
        cluster.apply(&manifests[name]).unwrap();
    }
    let identity = Identity::service_account(AGENT[0], "tessera-controller");
    let kubeconfig = cluster.kubeconfig_for("controller", &identity).unwrap();
    let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
    let run = |arguments: &[&str]| -> Result<(), String> {
        let arguments = [arguments, &[&kubeconfig]].concat();
        cluster.kubectl_output(&arguments).map(drop).map_err(|error| format!("{error:#}"))
    };
    let node = cluster.kubectl_output(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]).unwrap();
    let node = node.trim();
    let patch = |patch: &Value| run(&["patch", "node", node, "--type=merge", "-p", &patch.to_string()]);
    let label = |key: &str, value: Value| patch(&json!({"metadata": {"labels": {key: value}}}));

    // What was let through before would be no change afterwards.
    eventually("the policy is enforced", || {
        let refused = label("example.com/test", json!("x"));
        if refused.is_ok() {
            cluster.kubectl_output(&["label", "node", node, "example.com/test-"]).unwrap();
        }
        refused.err()
    });
    let key = "fabric.tessera.dev/gpu.nvidia.com";
    label(key, json!("domain-a")).unwrap();
    label(key, Value::Null).unwrap();
    for (what, refused) in [
        ("another label", label("example.com/test", json!("x"))),
        ("a label of Kubernetes", label("kubernetes.io/hostname", json!("x"))),
        ("one goes", label("kubernetes.io/hostname", Value::Null)),
        ("an annotation", patch(&json!({"metadata": {"annotations": {"a": "b"}}}))),
        ("a taint", patch(&json!({"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}}))),
        ("unschedulable", patch(&json!({"spec": {"unschedulable": true}}))),
    ] {
        let refused = refused.expect_err(what);
        assert!(refused.contains("tessera-controller"), "{what}: {refused}");
    }

    let of_domain = |name: &str| {
        let term = json!({"matchExpressions": [{"key": key, "operator": "In", "values": ["domain-a"]}]});
        let pool = json!({"name": "domains/gpu.nvidia.com/domain-a", "generation": 1, "resourceSliceCount": 1});
        json!({
            "apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": name},
            "spec": {"driver": "gpu.nvidia.com", "pool": pool, "nodeSelector": {"nodeSelectorTerms": [term]}},
        })
    };
    let write = |verb: &str, slice: &Value| {
        let name = slice["metadata"]["name"].as_str().unwrap();
        std::fs::write(cluster.run_directory().join(format!("{name}.json")), slice.to_string()).unwrap();
        run(&[verb, "-f", &format!("/run/cluster/{name}.json")])
    };
    let mut right = of_domain("domains-right");
    eventually("its slices are written", || write("create", &right).ok());
    right["spec"]["pool"]["generation"] = json!(2);
    write("replace", &right).unwrap();
    let changed = |name: &str, change: fn(&mut Value)| {
        let mut slice = of_domain(name);
        change(&mut slice["spec"]);
        write("create", &slice)
    };
    for (what, refused) in [
        ("of a node", write("create", &slice("domains-of-node", node, "gpu.nvidia.com"))),
        ("of another pool", changed("domains-pool", |spec| spec["pool"]["name"] = json!("everywhere"))),
        (
            "of another driver",
            changed("domains-driver", |spec| {
                spec["driver"] = json!("gpu.example.com");
                spec["pool"]["name"] = json!("domains/gpu.example.com/domain-a");
            }),
        ),
        (
            "of all nodes",
            changed("domains-all", |spec| {
                spec.as_object_mut().unwrap().remove("nodeSelector");
                spec["allNodes"] = json!(true);
            }),
        ),
        (
            "of nodes by another label",
            changed("domains-label", |spec| {
                spec["nodeSelector"]["nodeSelectorTerms"][0]["matchExpressions"][0]["key"] =
                    json!("kubernetes.io/hostname");
            }),
        ),
    ] {
        let refused = refused.expect_err(what);
        assert!(refused.contains("tessera-controller"), "{what}: {refused}");
    }
    run(&["delete", "resourceslice", "domains-right"]).unwrap();
}
