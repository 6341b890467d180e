//! A fabric domain that spans nodes, claimed as one by the pods of a job, one on each node.

use std::collections::BTreeSet;

use e2e::{PATIENCE, Team, bare_nodes, claim, container, eventually, has_taints_and_more, pod, request_of};
use serde_json::{Value, json};
use simulated_node::SimulatedNode;

use crate::policies::{kubectl, spec, wait, write};

const LABEL: &str = "fabric.tessera.dev/gpu.nvidia.com";
const CHANNEL: &str = "/dev/nvidia-caps-imex-channels/channel0";

/// How many devices a node publishes.
fn published(node: &SimulatedNode) -> usize {
    let slices = node.slices().unwrap();
    slices.iter().filter_map(|slice| slice["spec"]["devices"].as_array()).map(Vec::len).sum()
}

/// The slices of domains.
fn domains(node: &SimulatedNode) -> Vec<Value> {
    let ours = "--selector=app.kubernetes.io/managed-by=tessera-controller";
    let slices: Value = serde_json::from_str(&kubectl(node, &["get", "resourceslices", ours, "-o", "json"])).unwrap();
    slices["items"].as_array().unwrap().clone()
}

/// Pods that share a claim, none on the node of another.
fn start(team: &Team<'_>, shared: &str, pods: &[&str]) {
    let whole = json!({"devices": {"requests": [request_of("domain.tessera.dev", "gpus", &[])]}});
    let apart = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"job": shared}}},
    ]}});
    let uses = json!({"name": "claim", "resourceClaimName": shared});
    let pods = pods.iter().map(|name| {
        let mut pod = pod(name, std::slice::from_ref(&uses), &[container("main", &["claim"], &["devices"])]);
        pod["metadata"]["labels"] = json!({"job": shared});
        pod["spec"]["affinity"] = apart.clone();
        pod
    });
    let objects: Vec<_> = std::iter::once(claim(shared, &whole)).chain(pods).collect();
    team.apply_yaml(&json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string());
}

#[test]
fn the_pods_of_a_job_share_a_domain_of_two_nodes_and_nobody_else_has_any_of_it() {
    if !has_taints_and_more() {
        return;
    }
    let cluster = bare_nodes("domain", &["gb200", "gb200"]);
    cluster.release().install(&[]).unwrap();
    cluster.release().wait_until_ready(PATIENCE).unwrap();
    let nodes = cluster.nodes();
    for node in nodes {
        node.wait_for_devices(4, PATIENCE).unwrap();
    }
    let node = &nodes[0];
    let before: Vec<_> = nodes.iter().map(published).collect();
    let label = format!("-o=jsonpath={{.items[*].metadata.labels.{}}}", LABEL.replace('.', "\\."));
    let domain = eventually("both nodes to be labelled with their domain", || {
        let labels = kubectl(node, &["get", "nodes", &label]);
        let (one, other) = labels.split_once(' ')?;
        (one == other && one.starts_with("domain-")).then(|| one.to_owned())
    });
    assert!(domains(node).is_empty(), "nobody wants one");

    write(node, &spec(&json!([{"layout": {"domain": {}}}])));
    wait(node, "DomainsOffered", "True");
    let offered = domains(node);
    assert_eq!(offered.len(), 1, "{offered:#?}");
    let slice = &offered[0]["spec"];
    let device = &slice["devices"][0];
    println!("{slice:#}");
    assert_eq!(
        (&device["name"], &slice["pool"]["name"]),
        (&json!(domain), &json!(format!("domains/gpu.nvidia.com/{domain}")))
    );
    assert_eq!(device["attributes"]["tessera.dev/nodes"]["int"], 2);
    assert_eq!(device["attributes"]["tessera.dev/devices"]["int"], 8);
    for node in nodes {
        eventually("nothing to be offered by the node itself", || (published(node) == 0).then_some(()));
    }

    let team = Team::new(node, "domain");
    start(&team, "job", &["worker-0", "worker-1"]);
    let mut places = BTreeSet::new();
    for worker in ["worker-0", "worker-1"] {
        team.wait_running(worker);
        let gpus: BTreeSet<_> = (0..4).map(|number| format!("/dev/nvidia{number}")).collect();
        assert_eq!(team.gpus_seen(worker, "main"), gpus);
        assert!(team.nodes_seen(worker, "main").contains(CHANNEL));
        places.insert(team.get("pod", worker)["spec"]["nodeName"].to_string());
    }
    let uid = team.uid_of("job");
    assert!(nodes.iter().all(|node| Team::files_on(node, &uid).len() == 2));
    assert_eq!((places.len(), team.devices_of("job")), (2, vec![domain.clone()]));
    start(&team, "late", &["waits"]);
    let message = team.wait_event("waits", &["cannot allocate all claims"]);
    println!("{message}");

    // Withdrawn: who has the domain keeps it, and nobody new gets it.
    kubectl(node, &["delete", "partitionpolicy", "inference", "--wait=false"]);
    eventually("the domain to be closed", || {
        let taints = domains(node)[0]["spec"]["devices"][0]["taints"].clone();
        taints.as_array()?.iter().any(|taint| taint["key"] == "tessera.dev/repartitioning").then_some(())
    });
    team.kubectl(&["delete", "pod", "waits", "--timeout=90s"]);
    team.kubectl(&["delete", "resourceclaim", "late", "--timeout=90s"]);
    for worker in ["worker-0", "worker-1"] {
        assert_eq!(team.get("pod", worker)["status"]["phase"], "Running");
    }
    team.clear();
    let wait_until_withdrawn = || {
        kubectl(node, &["wait", "--for=delete", "partitionpolicy/inference", "--timeout=90s"]);
        eventually("the domain to be gone", || domains(node).is_empty().then_some(()));
        eventually("all to be as before", || (nodes.iter().map(published).collect::<Vec<_>>() == before).then_some(()));
    };
    wait_until_withdrawn();

    // Withdrawn by a policy that does not wait for ever: its pods are evicted, all of them.
    let impatient = json!({"deadlineSeconds": 5, "afterDeadline": "Evict"});
    let mut evicting = spec(&json!([{"layout": {"domain": {}}}]));
    evicting["rollout"]["drain"] = impatient;
    write(node, &evicting);
    wait(node, "DomainsOffered", "True");
    start(&team, "endless", &["endless-0", "endless-1"]);
    for worker in ["endless-0", "endless-1"] {
        team.wait_running(worker);
    }
    kubectl(node, &["delete", "partitionpolicy", "inference", "--wait=false"]);
    for worker in ["endless-0", "endless-1"] {
        // The domain, and what evicts them from it, may be gone a moment later.
        println!("{}", team.wait_event(worker, &["Marking for deletion"]));
        team.kubectl(&["wait", "--for=delete", &format!("pod/{worker}"), "--timeout=90s"]);
    }
    wait_until_withdrawn();
    team.run_with_one_gpu("single", &["devices"]);
    assert_eq!(team.gpus_seen("single", "main").len(), 1);
}
