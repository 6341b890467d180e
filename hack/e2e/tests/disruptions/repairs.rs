//! What the agent puts right by itself, and says of it in events of the Node.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cluster::Signal;
use e2e::{NodeEvent, Team, claim, container, eventually, one_gpu, pod, request, start_agent, without_agent};
use serde_json::json;
use simulated_node::SimulatedNode;

/// A node whose agent compares every two seconds.
fn node_that_compares(name: &str, hardware: &str) -> SimulatedNode {
    let node = without_agent(name, hardware);
    start_agent(&node, &["--reconcile", "2"]);
    node
}

/// A claim's file with this extension: `json` is the CDI spec's, `record` the agent's own.
fn file_of(team: &Team<'_>, uid: &str, extension: &str) -> Option<PathBuf> {
    team.files_of(uid).into_iter().find(|path| path.extension().is_some_and(|found| found == extension))
}

#[test]
fn a_damaged_spec_is_written_again_and_the_node_says_so() {
    let node = node_that_compares("damage", "dgx-h100");
    let team = Team::new(&node, "damage");
    team.run_with_one_gpu("training", &["devices"]);
    let uid = team.uid_of("training");
    let path = file_of(&team, &uid, "json").unwrap();
    let whole = fs::read(&path).unwrap();
    let damage = || {
        fs::write(&path, "{}").unwrap();
        eventually("the spec", || fs::read(&path).is_ok_and(|bytes| bytes == whole).then_some(()));
    };

    damage();
    let event = NodeEvent::wait(&node, "ClaimFilesRewritten", "damage/training");
    assert_eq!(event.count, 1);
    // As a person looks for it.
    let described = node.cluster().kubectl_output(&["describe", "node", node.cluster().node_name()]).unwrap();
    let line = described.lines().find(|line| line.contains("ClaimFilesRewritten")).unwrap_or_default();
    assert!(line.contains("Warning") && line.contains("tessera-agent") && line.contains("damage/training"), "{line}");
    // A second time makes a series of it, by a patch.
    damage();
    eventually("a series", || {
        (NodeEvent::wait(&node, "ClaimFilesRewritten", "damage/training").count == 2).then_some(())
    });
    assert_eq!(NodeEvent::all(&node, "ClaimFilesRewritten").len(), 1);

    let stray = path.with_file_name("tessera.gpu.nvidia.com-claim_forgotten.json");
    fs::write(&stray, &whole).unwrap();
    NodeEvent::wait(&node, "StrayFileRemoved", "forgotten");
    assert!(!stray.exists());
    team.delete_pod("training");
    eventually("nothing is left", || team.files_of(&uid).is_empty().then_some(()));
}

#[test]
fn a_claim_that_the_kubelet_forgot_is_undone_and_its_device_is_free() {
    let node = node_that_compares("forgotten", "mixed");
    let team = Team::new(&node, "forgotten");
    let only = request("gpu", &["device.attributes['gpu.nvidia.com'].productName.contains('T4')"]);
    let run = |name: &str| {
        let uses = [json!({"name": "gpu", "resourceClaimName": name})];
        let spec = json!({"devices": {"requests": [only]}});
        team.apply(&[claim(name, &spec), pod(name, &uses, &[container("main", &["gpu"], &["devices"])])]);
        team.wait_running(name);
    };
    run("lost");
    team.run_with_one_gpu("bystander", &["devices"]);
    let (uid, bystander) = (team.uid_of("lost"), team.uid_of("bystander"));

    // Nobody who knew of the claim is left but the agent.
    node.cluster().kill_kubelet().unwrap();
    fs::remove_file(node.cluster().node_root().join("var/lib/kubelet/dra_manager_state")).unwrap();
    team.kubectl(&["delete", "pod", "lost", "--grace-period=0", "--force"]);
    team.kubectl(&["delete", "resourceclaim", "lost", "--timeout=60s"]);
    // While the kubelet says nothing, nothing is undone, however often the agent compares.
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(team.files_of(&uid).len(), 2, "who is silent has not said that the claim is unused");
    node.cluster().restart_kubelet().unwrap();
    let started = Instant::now();
    eventually("the claim's files are gone", || team.files_of(&uid).is_empty().then_some(()));
    println!("undone {:?} after the start of the kubelet", started.elapsed());

    NodeEvent::wait(&node, "OrphanedClaimUndone", "forgotten/lost");
    assert_eq!(NodeEvent::all(&node, "OrphanedClaimUndone").len(), 1, "the other claim is in use");
    assert_eq!(team.files_of(&bystander).len(), 2);
    run("next");
    assert!(!team.kubectl(&["get", "events"]).contains("FailedPrepareDynamicResources"));
}

#[test]
fn a_record_that_was_lost_is_made_anew_and_the_container_starts_again() {
    let node = node_that_compares("rebuilt", "dgx-h100");
    let team = Team::new(&node, "rebuilt");
    for name in ["lost", "garbled"] {
        let uses = [json!({"name": "gpu", "resourceClaimName": name})];
        let mut pod = pod(name, &uses, &[container("main", &["gpu"], &["devices"])]);
        pod["spec"]["restartPolicy"] = json!("Always");
        team.apply(&[claim(name, &one_gpu()), pod]);
        team.wait_running(name);
    }
    let uids = ["lost", "garbled"].map(|name| team.uid_of(name));
    let records = uids.each_ref().map(|uid| file_of(&team, uid, "record").unwrap());
    let specs = uids.each_ref().map(|uid| file_of(&team, uid, "json").unwrap());
    let before = [&records, &specs].map(|paths| paths.each_ref().map(|path| fs::read(path).unwrap()));

    node.agent().stop(Signal::KILL).unwrap();
    fs::remove_file(&records[0]).unwrap();
    fs::write(&records[1], "garbled").unwrap();
    start_agent(&node, &["--reconcile", "2"]);
    let now = || [&records, &specs].map(|paths| paths.each_ref().map(|path| fs::read(path).unwrap_or_default()));
    eventually("both records and specs as they were", || (now() == before).then_some(()));
    NodeEvent::wait(&node, "RecordSetAside", "has no header");
    for (name, uid) in ["lost", "garbled"].iter().zip(&uids) {
        NodeEvent::wait(&node, "RecordRebuilt", uid);
        let seen = team.gpus_seen(name, "main");
        kill_container(&node, &team, name);
        eventually("the container starts again", || {
            let status = &team.get("pod", name)["status"]["containerStatuses"][0];
            (status["restartCount"] == 1 && status["ready"] == true).then_some(())
        });
        assert_eq!(team.gpus_seen(name, "main"), seen);
        team.delete_pod(name);
        eventually("nothing is left", || team.files_of(uid).is_empty().then_some(()));
    }
}

/// Kills the process of a pod's only container, past the kubelet.
fn kill_container(node: &SimulatedNode, team: &Team<'_>, pod: &str) {
    let id = team.get("pod", pod)["status"]["containerStatuses"][0]["containerID"].clone();
    let id = id.as_str().unwrap().trim_start_matches("containerd://");
    let socket = "/run/containerd/containerd.sock";
    let kill =
        ["/run/cluster/bin/ctr", "--address", socket, "--namespace", "k8s.io", "tasks", "kill", "-s", "SIGKILL", id];
    let output = node.cluster().enter(&kill).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
