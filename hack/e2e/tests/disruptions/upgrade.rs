//! One agent replaces another while the kubelet goes on calling.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cluster::Signal;
use e2e::{
    Calls, Newest, PATIENCE, Team, Traffic, by_chart, claim, container, eventually, one_gpu, pod, without_agent,
};
use serde_json::json;
use simulated_node::SimulatedNode;

use crate::stamps;

/// So many claims take turns, so that each stays prepared for a while.
const CLAIMS: usize = 4;

struct OldAndNew<'a> {
    node: &'a SimulatedNode,
    old: Calls,
    new: Option<Calls>,
    /// How often each was called.
    calls: [usize; 2],
    /// Whether the new one is called: from then on nothing is under way at the old one.
    handed_over: &'a AtomicBool,
}

impl Newest for OldAndNew<'_> {
    fn calls(&mut self) -> &Calls {
        if self.new.is_none() && self.node.another_agent("new").is_registered() {
            self.new = Some(Calls::to(self.node, Some("new")));
            self.handed_over.store(true, Ordering::Relaxed);
        }
        self.calls[usize::from(self.new.is_some())] += 1;
        self.new.as_ref().unwrap_or(&self.old)
    }
}

#[test]
fn an_upgrade_fails_no_prepare() {
    if by_chart() {
        return eprintln!("see the test of the chart, which upgrades and goes back");
    }
    let node = without_agent("upgrade", "h100x16");
    let team = Team::new(&node, "upgrade");
    let (old, new) = (node.agent(), node.another_agent("new"));
    old.start(&["--instance", "old"]).unwrap();
    old.wait_until_ready(PATIENCE).unwrap();
    let slices = stamps(&node);
    // The last devices; the scheduler gives the first ones to the pods.
    let devices = slices[0].2["devices"].as_array().unwrap().iter().rev().take(CLAIMS);
    let devices = devices.map(|device| device["name"].as_str().unwrap());
    let claims: Vec<_> =
        devices.enumerate().map(|(number, device)| team.allocate(&format!("claim-{number}"), device)).collect();

    let (over, handed_over) = (AtomicBool::new(false), AtomicBool::new(false));
    let (traffic, calls, pods) = std::thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let old = Calls::to(&node, Some("old"));
            let mut newest = OldAndNew { node: &node, old, new: None, calls: [0, 0], handed_over: &handed_over };
            (Traffic::until(&over, &claims, &mut newest), newest.calls)
        });
        let upgrade = scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(1));
            new.start(&["--instance", "new", "--http", "off"]).unwrap();
            new.wait_until_ready(PATIENCE).unwrap();
            eventually("a call of the new one", || handed_over.load(Ordering::Relaxed).then_some(()));
            old.stop(Signal::TERM).unwrap();
        });
        // Pods besides, from before the new agent comes until after the old one has gone.
        let (mut pods, mut after) = (0, 0);
        while after < 4 && pods < 16 - CLAIMS {
            let name = format!("pod-{pods}");
            let uses = [json!({"name": "gpu", "resourceClaimName": name})];
            team.apply(&[claim(&name, &one_gpu()), pod(&name, &uses, &[container("main", &["gpu"], &["devices"])])]);
            pods += 1;
            after += i32::from(upgrade.is_finished());
            std::thread::sleep(Duration::from_millis(300));
        }
        upgrade.join().unwrap();
        for number in 0..pods {
            team.wait_running(&format!("pod-{number}"));
        }
        over.store(true, Ordering::Relaxed);
        let (traffic, calls) = traffic.join().unwrap();
        (traffic, calls, pods)
    });
    println!("{} claims prepared, {calls:?} calls of the old and of the new agent, and {pods} pods", traffic.prepared);
    traffic.assert_whole();
    assert!(calls.iter().all(|calls| *calls > 0), "{calls:?}");
    assert!(!team.kubectl(&["get", "events"]).contains("FailedPrepareDynamicResources"));
    assert_eq!(stamps(&node), slices, "not a single write");
    assert!(claims.iter().all(|claim| team.files_of(&claim.uid).is_empty()));
    // The new one undoes what the old one prepared.
    let uid = team.uid_of("pod-0");
    team.delete_pod("pod-0");
    eventually("the files of the claim are gone", || team.files_of(&uid).is_empty().then_some(()));
}
