//! A cluster of several nodes, which come and go. Needs root.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and clippy only knows it of functions marked as tests"
)]

mod support;

use std::fs;
use std::time::Duration;

use cluster::{Cluster, NODE, Options};
use support::{Traces, eventually, pod, unique_name};

const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a pod on the node from which the cluster is seen, until it is Ready.
fn run_pod(seen: &Cluster, name: &str) {
    let mut pod: serde_json::Value = serde_json::from_str(&pod(name, &["sleep"])).unwrap();
    pod["spec"]["nodeName"] = seen.node_name().into();
    seen.apply(&pod.to_string()).unwrap();
    seen.kubectl_output(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=60s"]).unwrap();
}

#[test]
fn nodes_of_their_own_go_and_come_back_alone() {
    let options = Options { nodes: 3, ..Options::new(unique_name("nodes")) };
    let cluster = Cluster::up(&options, &mut |progress| eprintln!("{progress}")).unwrap();
    assert_eq!(cluster.node_names(), [NODE, "node-2", "node-3"]);
    let nodes = cluster.node_names().into_iter().map(|name| cluster.seen_from(name).unwrap());
    let nodes: Vec<_> = nodes.collect();
    for node in &nodes {
        let name = node.node_name();
        assert!(node.status().unwrap().node_ready, "{name}");
        run_pod(node, &format!("on-{name}"));
        // By the API server's connection to that node's kubelet.
        cluster.kubectl_output(&["exec", &format!("on-{name}"), "--", "/probe", "env"]).unwrap();
    }
    let refused = format!("{:#}", cluster.seen_from("node-4").unwrap_err());
    assert!(refused.contains("node-1, node-2, node-3"), "{refused}");

    // What one has is no other's.
    let (one, two, three) = (&nodes[0], &nodes[1], &nodes[2]);
    for node in [one, two, three] {
        fs::write(node.node_root().join("run/own"), node.node_name()).unwrap();
        fs::write(node.node_root().join("var/lib/own"), node.node_name()).unwrap();
    }
    for (file, node) in ["run/own", "var/lib/own"].into_iter().flat_map(|file| nodes.iter().map(move |it| (file, it))) {
        assert_eq!(fs::read_to_string(node.node_root().join(file)).unwrap(), node.node_name());
    }
    let boots: Vec<_> = nodes.iter().map(|node| node.boot_id().unwrap()).collect();
    assert!(boots[0] != boots[1] && boots[1] != boots[2] && boots[2] != boots[0], "{boots:?}");
    let services: Vec<_> = two.status().unwrap().services.into_iter().map(|service| service.name).collect();
    assert_eq!(services, ["containerd", "kubelet"]);

    // One goes, and the others do not mind.
    let traces = Traces::of(&cluster);
    let refused = cluster.kill_node().unwrap_err().to_string();
    assert!(refused.contains("the cluster would end"), "{refused}");
    two.kill_node().unwrap();
    assert!(!two.is_node_up() && !two.node_root().exists());
    assert!(two.kill_node().unwrap_err().to_string().contains("away already"));
    run_pod(three, "while-node-2-is-away");

    // It comes back as who it was, with what it had on disk, and with nothing of what it had in memory.
    let pod_before = ["get", "pod", "on-node-2", "-o=jsonpath={.status.containerStatuses[0].containerID}"];
    let before = cluster.kubectl_output(&pod_before).unwrap();
    two.start_node().unwrap();
    assert!(two.start_node().unwrap_err().to_string().contains("is up"));
    assert_ne!(two.boot_id().unwrap(), boots[1]);
    let root = two.node_root();
    assert_eq!(fs::read_to_string(root.join("proc/sys/kernel/random/boot_id")).unwrap().trim(), two.boot_id().unwrap());
    assert_eq!(fs::read_to_string(root.join("var/lib/own")).unwrap(), "node-2");
    assert!(!root.join("run/own").exists());
    run_pod(two, "after-the-boot");
    cluster.kubectl_output(&["exec", "after-the-boot", "--", "/probe", "env"]).unwrap();
    eventually("the kubelet has noticed what became of its pod", PATIENCE, || {
        let phase = ["get", "pod", "on-node-2", "-o=jsonpath={.status.phase}"];
        cluster.kubectl_output(&phase).unwrap() == "Failed" || cluster.kubectl_output(&pod_before).unwrap() != before
    });

    // A PID 1 that is killed by somebody else is a node that is away.
    let init = support::recorded_init_of(cluster.name(), "node-3").unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(init).unwrap(), cluster::Signal::KILL).unwrap();
    eventually("its end is noticed", PATIENCE, || !three.is_node_up());
    three.start_node().unwrap();
    run_pod(three, "once-more");

    cluster.down().unwrap();
    traces.assert_gone_within(Duration::ZERO);
}
