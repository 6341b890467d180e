use serde_json::{Value, json};
use testkit::api_server::Resource;

use crate::ground::{Ground, Replica};

const DRIVER: [&str; 2] = ["--drivers", "nvidia=gpu.nvidia.com"];
const LABEL: &str = "/metadata/labels/fabric.tessera.dev~1gpu.nvidia.com";

/// Nodes with an agent each, all in one domain.
fn rack(nodes: usize) -> Ground {
    let mut ground = Ground::new(nodes);
    for index in 0..nodes {
        join(&mut ground, &format!("n{index}"));
    }
    ground
}

/// Has a node lie in the domain, and an agent publish there.
fn join(ground: &mut Ground, node: &str) {
    ground.nodes.lie_in(node, "rack.1");
    let uid = ground.server.get(Resource::Nodes, "", node).unwrap()["metadata"]["uid"].clone();
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid});
    let slice = json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice",
        "metadata": {"name": format!("{node}-gpu.nvidia.com-000"), "ownerReferences": [owner]},
        "spec": {
            "driver": "gpu.nvidia.com", "nodeName": node,
            "pool": {"name": format!("{node}/gpu.nvidia.com"), "generation": 1, "resourceSliceCount": 1},
        },
    });
    ground.server.put(Resource::Slices, slice);
}

fn put_policy(ground: &Ground) {
    let policy = json!({
        "apiVersion": "tessera.dev/v1alpha1", "kind": "PartitionPolicy", "metadata": {"name": "p"},
        "spec": {"rules": [{"layout": {"domain": {}}}], "rollout": {"maxUnavailable": "100%"}},
    });
    ground.server.put(Resource::Policies, policy);
}

fn slice(ground: &Ground) -> Option<Value> {
    ground.server.slices().into_iter().find(|slice| slice["spec"]["nodeName"].is_null())
}

/// The taints of the domain's device: `Some("")` is one that may be taken.
fn taints(ground: &Ground) -> Option<String> {
    let slice = slice(ground)?;
    let taints = slice["spec"]["devices"][0]["taints"].as_array().cloned().unwrap_or_default();
    let told = |taint: Value| {
        let part = |name: &str| taint[name].as_str().unwrap_or_default().trim_start_matches("tessera.dev/").to_owned();
        format!("{}={}", part("key"), part("value"))
    };
    Some(taints.into_iter().map(told).collect::<Vec<_>>().join(" "))
}

fn label(ground: &Ground, node: &str) -> Option<String> {
    ground.server.get(Resource::Nodes, "", node)?.pointer(LABEL)?.as_str().map(str::to_owned)
}

fn condition(ground: &Ground) -> String {
    let policy = ground.server.get(Resource::Policies, "", "p").unwrap_or_default();
    let conditions = policy["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let told = conditions.into_iter().find(|condition| condition["type"] == "DomainsOffered").unwrap_or_default();
    format!("{} {}", told["status"].as_str().unwrap_or_default(), told["reason"].as_str().unwrap_or_default())
}

fn until_tainted(ground: &mut Ground, replica: &Replica, wanted: Option<&str>) {
    ground.until(&format!("the domain is {wanted:?}"), &[replica], |ground| taints(ground).as_deref() == wanted);
}

#[test]
fn a_domain_is_offered_while_all_its_nodes_follow_and_goes_with_the_policy() {
    let mut ground = rack(2);
    let replica = ground.start("a", &DRIVER);
    ground.until("the nodes say where they lie", &[&replica], |ground| {
        ["n0", "n1"].iter().all(|node| label(ground, node).is_some())
    });
    assert_eq!(taints(&ground), None, "nobody has asked for it");
    put_policy(&ground);
    until_tainted(&mut ground, &replica, Some(""));
    let stored = slice(&ground).unwrap();
    let name = stored["spec"]["devices"][0]["name"].as_str().unwrap().to_owned();
    let expression = &stored["spec"]["nodeSelector"]["nodeSelectorTerms"][0]["matchExpressions"][0];
    assert_eq!(*expression, json!({"key": "fabric.tessera.dev/gpu.nvidia.com", "operator": "In", "values": [name]}));
    assert_eq!(label(&ground, "n0").as_ref(), Some(&name));
    assert_eq!(stored["spec"]["pool"]["name"], format!("domains/gpu.nvidia.com/{name}"));
    assert_eq!(stored["spec"]["devices"][0]["attributes"]["tessera.dev/devices"], json!({"int": 4}));
    ground.until("it is told", &[&replica], |ground| {
        condition(ground) == "True Offered" && ground.server.events().iter().any(|(reason, _)| reason == "Offered")
    });

    // What others do to it is put right.
    let object = stored["metadata"]["name"].as_str().unwrap();
    ground.server.delete(Resource::Slices, "", object);
    until_tainted(&mut ground, &replica, Some(""));
    ground.server.edit(Resource::Slices, "", object, |slice| slice["spec"]["devices"] = json!([]));
    until_tainted(&mut ground, &replica, Some(""));
    ground.until("the devices are back", &[&replica], |ground| {
        slice(ground).unwrap()["spec"]["devices"][0]["name"] == name
    });
    assert_eq!(slice(&ground).unwrap()["spec"]["pool"]["generation"], 2);
    ground.server.edit(Resource::Nodes, "", "n0", |node| node["metadata"]["labels"] = json!({}));
    ground.until("the label is back", &[&replica], |ground| label(ground, "n0").is_some());

    // A node leaves, and comes back as another one of that name.
    ground.server.delete(Resource::Slices, "", "n1-gpu.nvidia.com-000");
    until_tainted(&mut ground, &replica, Some("incomplete=1-of-2"));
    ground.server.delete(Resource::Nodes, "", "n1");
    until_tainted(&mut ground, &replica, Some(""));
    assert_eq!(slice(&ground).unwrap()["spec"]["devices"][0]["attributes"]["tessera.dev/nodes"], json!({"int": 1}));
    ground.server.put_node("n1", "another");
    join(&mut ground, "n1");
    ground.until("it follows again", &[&replica], |ground| {
        let devices = slice(ground).map(|slice| slice["spec"]["devices"][0].clone()).unwrap_or_default();
        devices["attributes"]["tessera.dev/nodes"] == json!({"int": 2}) && taints(ground).as_deref() == Some("")
    });

    // Withdrawn while somebody has it.
    ground.nodes.used_by("n0", 1);
    ground.server.ask_to_delete(Resource::Policies, "", "p");
    until_tainted(&mut ground, &replica, Some("incomplete=0-of-2 repartitioning=p"));
    ground.until("it is told", &[&replica], |ground| condition(ground) == "False Withdrawing");
    ground.nodes.used_by("n0", 0);
    until_tainted(&mut ground, &replica, None);
    ground.until("the policy is gone", &[&replica], |ground| ground.policy().is_none());
    assert!(label(&ground, "n0").is_some(), "it lies there all the same");
    assert_eq!(ground.server.list(Resource::NodeLayouts).len(), 2, "agents say where they lie");
}

#[test]
fn who_starts_again_writes_nothing_and_nothing_before_all_is_known() {
    let mut ground = rack(2);
    let mut replica = ground.start("a", &DRIVER);
    put_policy(&ground);
    until_tainted(&mut ground, &replica, Some(""));
    ground.until("all is told", &[&replica], |ground| {
        condition(ground) == "True Offered" && ground.policy().is_some_and(|(_, reason)| reason == "Complete")
    });
    assert!(replica.stop().success());
    ground.server.forget_requests();
    let again = ground.start("b", &DRIVER);
    ground.until("it has listed everything", &[&again], |ground| {
        ground.server.requests().of("watch", Resource::Slices) > 1
    });
    std::thread::sleep(std::time::Duration::from_millis(500));
    let requests = ground.server.requests();
    for resource in [Resource::Policies, Resource::NodeLayouts, Resource::Nodes, Resource::Slices, Resource::Events] {
        let writes: usize =
            ["create", "update", "patch", "delete"].iter().map(|verb| requests.of(verb, resource)).sum();
        assert_eq!(writes, 0, "{resource:?}");
    }
}

#[test]
fn a_server_that_drops_taints_never_stores_a_domain_that_is_not_complete() {
    let mut ground = rack(2);
    ground.server.drop_device_field("taints");
    ground.nodes.fail("n1", true);
    let replica = ground.start("a", &DRIVER);
    put_policy(&ground);
    ground.until("one follows", &[&replica], |ground| {
        condition(ground) == "False DeviceFailed" && replica.text().contains("drops taints")
    });
    assert_eq!(slice(&ground), None);
    let written = ground.server.requests().of("update", Resource::Slices);
    ground.nodes.fail("n1", false);
    ground.server.edit(Resource::Policies, "", "p", |policy| policy["spec"]["rollout"]["attempt"] = json!(1));
    ground.until("both follow", &[&replica], |ground| {
        let devices = slice(ground).map(|slice| slice["spec"]["devices"][0].clone()).unwrap_or_default();
        devices["attributes"]["tessera.dev/nodes"] == json!({"int": 2})
    });
    assert_eq!(ground.server.requests().of("update", Resource::Slices), written, "it was never anything else");
}

#[test]
fn whoever_is_not_to_offer_domains_says_nothing_of_them() {
    let mut ground = rack(1);
    let replica = ground.start("a", &[&DRIVER[..], &["--domains", "false"]].concat());
    put_policy(&ground);
    ground.until("it is said", &[&replica], |ground| condition(ground) == "False Disabled");
    assert_eq!((label(&ground, "n0"), slice(&ground)), (None, None));
}
