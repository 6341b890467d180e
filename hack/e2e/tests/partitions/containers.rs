//! What a container that was granted a partition can open, and what it cannot.

use std::collections::BTreeSet;

use e2e::{Team, container, pod};
use simulated_node::SimulatedNode;

use crate::ground::{A100, Gpu, H100, cutting, has_counters, instances, nothing_left, profile};

/// The nodes of the one partition of a GPU, by what the machine says: that of the GPU and those of two capabilities.
fn nodes_of_partition(node: &SimulatedNode, gpu: &Gpu) -> (BTreeSet<String>, BTreeSet<String>) {
    let hardware = node.machine().hardware().unwrap();
    let found = &hardware.gpus[gpu.index];
    let [instance] = &found.mig.gpu_instances[..] else { panic!("{:?}", found.mig.gpu_instances) };
    let [compute] = &instance.compute_instances[..] else { panic!("{instance:?}") };
    let capabilities = [instance.node, compute.node].map(|node| format!("/dev/nvidia-caps/nvidia-cap{node}"));
    (BTreeSet::from([format!("/dev/nvidia{}", found.minor)]), BTreeSet::from(capabilities))
}

#[test]
fn a_pod_of_each_profile_sees_its_gpu_and_two_capabilities() {
    if !has_counters() {
        return;
    }
    let node = cutting("profiles");
    let team = Team::new(&node, "profiles");
    for (of_a100, of_h100) in [
        ("1g.5gb", "1g.10gb"),
        ("1g.5gb+me", "1g.10gb+me"),
        ("1g.10gb", "1g.20gb"),
        ("2g.10gb", "2g.20gb"),
        ("3g.20gb", "3g.40gb"),
        ("4g.20gb", "4g.40gb"),
        ("7g.40gb", "7g.80gb"),
    ] {
        let pods = [(A100, "a100", of_a100), (H100, "h100", of_h100)];
        for (gpu, pod, wanted) in &pods {
            team.start(pod, &profile(gpu, wanted), &["devices"]);
        }
        for (gpu, pod, wanted) in &pods {
            team.wait_running(pod);
            let (gpus, capabilities) = nodes_of_partition(&node, gpu);
            assert_eq!(team.gpus_seen(pod, "main"), gpus, "{wanted}");
            assert_eq!(team.capabilities_seen(pod, "main"), capabilities, "{wanted}");
            for path in gpus.union(&capabilities) {
                let opened = team.try_exec(pod, "main", &["/probe", "open", path]);
                assert_eq!(opened.trim(), format!("open {path}: ok"), "{wanted}");
            }
        }
        team.clear();
        nothing_left(&node);
    }
}

#[test]
fn two_partitions_of_one_gpu_keep_apart() {
    if !has_counters() {
        return;
    }
    let node = cutting("apart");
    let team = Team::new(&node, "apart");
    for name in ["first", "second"] {
        team.start(name, &profile(&H100, "1g.10gb"), &["devices"]);
    }
    team.apply(&[pod("stranger", &[], &[container("main", &[], &["devices"])])]);
    for name in ["first", "second", "stranger"] {
        team.wait_running(name);
    }
    assert_eq!(instances(&node, &H100).len(), 2);
    assert_eq!(team.gpus_seen("first", "main"), team.gpus_seen("second", "main"));
    let seen = ["first", "second"].map(|pod| team.capabilities_seen(pod, "main"));
    assert_eq!((seen[0].len(), seen[1].len()), (2, 2));
    assert!(seen[0].is_disjoint(&seen[1]), "{seen:?}");
    assert!(team.capabilities_seen("stranger", "main").is_empty());

    // The very nodes that another container was granted, made anew: the kernel knows them by number.
    for (of, by) in [("second", "first"), ("first", "second"), ("first", "stranger")] {
        let log = team.log(of, "main", "/dev/zero");
        for line in log.lines().filter(|line| line.starts_with("/dev/nvidia-caps/")) {
            let numbers: Vec<_> = line.split([' ', ':']).collect();
            let [_, major, minor] = numbers[..] else { panic!("{line}") };
            let stolen = format!("/dev/stolen-{minor}");
            let refused = team.try_exec(by, "main", &["/probe", "mknod", &stolen, major, minor]);
            // Without EPERM the kernel would have let it be opened, or made.
            assert!(refused.contains("EPERM") && !refused.contains(&format!("open {stolen}: ok")), "{line}: {refused}");
        }
    }
}
