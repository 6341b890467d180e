//! The agent dies while partitions are in use, or half made.

use std::time::Duration;

use cluster::Signal;
use e2e::{PATIENCE, Team, eventually, start_agent};
use serde_json::Value;
use simulated_node::SimulatedNode;

use crate::ground::{
    A100, H100, ON_DEMAND, cutting, files, hardware, has_counters, instances, nothing_left, profile, published,
};

fn versions(node: &SimulatedNode) -> Vec<(Value, Value)> {
    let slices = node.slices().unwrap();
    slices
        .iter()
        .map(|slice| (slice["metadata"]["uid"].clone(), slice["metadata"]["resourceVersion"].clone()))
        .collect()
}

#[test]
fn a_killed_agent_keeps_what_runs_and_removes_what_ended_meanwhile() {
    if !has_counters() {
        return;
    }
    let node = cutting("killed-holding");
    let team = Team::new(&node, "killed-holding");
    for name in ["stays", "ends"] {
        team.start(name, &profile(&H100, "2g.20gb"), &["devices"]);
        team.wait_running(name);
    }
    let (slices, cut) = (versions(&node), instances(&node, &H100));
    assert_eq!(cut.len(), 2);

    node.agent().stop(Signal::KILL).unwrap();
    // The kubelet cannot free it before the agent is back.
    team.kubectl(&["delete", "pod", "ends", "--wait=false"]);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(instances(&node, &H100), cut);
    start_agent(&node, ON_DEMAND);
    eventually("the partition of the pod that ended is gone", || (instances(&node, &H100).len() == 1).then_some(()));
    assert_eq!(versions(&node), slices, "not a single write");
    assert_eq!(team.get("pod", "stays")["status"]["containerStatuses"][0]["restartCount"], 0);
    for path in team.capabilities_seen("stays", "main") {
        assert!(team.try_exec("stays", "main", &["/probe", "open", &path]).contains("ok"), "{path}");
    }
    team.delete_pod("stays");
    nothing_left(&node);
}

#[test]
fn a_partition_that_was_being_made_when_the_agent_died_is_finished() {
    killed_at_work("killed-retried", |team| {
        // The kubelet asks again, after a while of its own choosing.
        team.wait_running_within(4 * PATIENCE, "training");
        assert_eq!(team.capabilities_seen("training", "main").len(), 2);
        team.delete_pod("training");
    });
}

#[test]
fn a_partition_that_was_being_made_when_the_agent_died_is_removed() {
    killed_at_work("killed-deleted", |team| {
        team.delete_pod("training");
    });
}

/// Kills the agent between the GPU instance and the compute instance, starts another one and has it brought to an end.
fn killed_at_work(name: &str, end: impl Fn(&Team<'_>)) {
    if !has_counters() {
        return;
    }
    let node = cutting(name);
    let team = Team::new(&node, name);
    let (slices, offered) = (versions(&node), [published(&node, &A100), published(&node, &H100)]);
    hardware(&node, "set 1 latency_ms=60000 function=nvmlGpuInstanceCreateComputeInstance times=1");
    team.start("training", &profile(&H100, "2g.20gb"), &["devices"]);
    eventually("a partition that is half made", || (instances(&node, &H100).len() == 1).then_some(()));
    assert_eq!(files(&node).len(), 1, "the record, and no CDI spec yet");
    node.agent().stop(Signal::KILL).unwrap();
    hardware(&node, "set 1 latency_ms=0");
    start_agent(&node, ON_DEMAND);
    end(&team);
    nothing_left(&node);
    assert_eq!([published(&node, &A100), published(&node, &H100)], offered);
    assert_eq!(versions(&node), slices, "not a single write");
}
