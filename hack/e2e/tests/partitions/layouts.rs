//! What fits on a GPU, by the scheduler's counting.

use e2e::{Team, eventually};

use crate::ground::{A100, H100, cutting, has_counters, instances, nothing_left, profile, published, whole};

#[test]
fn a_gpu_is_filled_exactly_and_what_has_no_room_waits() {
    if !has_counters() {
        return;
    }
    let node = cutting("filled");
    let team = Team::new(&node, "filled");
    for (number, (gpu, layout, one_more)) in [
        (H100, &["4g.40gb", "2g.20gb", "1g.10gb"][..], "1g.10gb"),
        // In the other order: the first place that is taken must not spoil the last.
        (A100, &["1g.5gb", "2g.10gb", "4g.20gb"], "1g.5gb+me"),
        (A100, &["3g.20gb"; 2], "1g.5gb"),
        (H100, &["1g.10gb"; 7], "1g.10gb"),
    ]
    .into_iter()
    .enumerate()
    {
        // Events outlive pods, so names are not used again.
        let pods: Vec<_> = (0..layout.len()).map(|pod| format!("layout-{number}-{pod}")).collect();
        for (pod, wanted) in pods.iter().zip(layout) {
            team.start(pod, &profile(&gpu, wanted), &["devices"]);
            team.wait_running(pod);
        }
        assert_eq!(instances(&node, &gpu).len(), layout.len(), "{layout:?}");

        let more = format!("more-{number}");
        team.start(&more, &profile(&gpu, one_more), &["devices"]);
        let reason = team.wait_event(&more, &["0/1 nodes are available"]);
        assert!(reason.contains("cannot allocate all claims"), "{layout:?}: {reason}");
        assert_eq!(team.get("pod", &more)["status"]["phase"], "Pending", "{layout:?}");
        // As soon as there is room.
        team.delete_pod(pods.last().unwrap());
        team.wait_running(&more);
        assert_eq!(instances(&node, &gpu).len(), layout.len(), "{layout:?}");
        team.clear();
        nothing_left(&node);
    }
}

#[test]
fn a_gpu_and_its_partitions_exclude_each_other() {
    if !has_counters() {
        return;
    }
    let node = cutting("exclude");
    let team = Team::new(&node, "exclude");
    // Ampere is switched by a reset alone, so it is offered as it is.
    assert!(!published(&node, &A100).contains(A100.name));
    assert!(published(&node, &H100).contains(H100.name));

    team.start("partition", &profile(&H100, "1g.10gb"), &["devices"]);
    team.wait_running("partition");
    team.start("whole", &whole(&H100), &["devices"]);
    team.wait_event("whole", &["cannot allocate all claims"]);
    team.delete_pod("partition");
    team.wait_running("whole");
    assert_eq!((team.gpus_seen("whole", "main").len(), team.capabilities_seen("whole", "main").len()), (1, 0));
    let mode = || node.machine().hardware().unwrap().gpus[H100.index].mig.mode;
    assert!(!mode(), "a program that was given a whole GPU does not expect MIG");

    team.start("again", &profile(&H100, "7g.80gb"), &["devices"]);
    team.wait_event("again", &["cannot allocate all claims"]);
    team.delete_pod("whole");
    team.wait_running("again");
    assert!(mode());
    team.clear();
    nothing_left(&node);
    eventually("both are offered again", || (published(&node, &H100).len() == 26).then_some(()));
}
