//! What an agent's token can do to the slices of others: nothing.

use cluster::Identity;
use e2e::{eventually, shared};
use serde_json::{Value, json};

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
