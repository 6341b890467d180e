//! One agent replaces another while the kubelet goes on calling.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cluster::Signal;
use e2e::{Calls, PATIENCE, Team, claim, container, eventually, one_gpu, pod, without_agent};
use serde_json::json;
use simulated_node::SimulatedNode;

use crate::stamps;

/// Between two claims that are prepared.
const PACE: Duration = Duration::from_millis(100);
/// So many claims take turns, so that each stays prepared for a while.
const CLAIMS: usize = 4;

/// The kubelet's calls while there may be two agents: to the one that registered last.
struct Newest<'a> {
    node: &'a SimulatedNode,
    old: Calls,
    new: Option<Calls>,
}

impl Newest<'_> {
    fn calls(&mut self) -> &Calls {
        if self.new.is_none() && self.node.another_agent("new").is_registered() {
            self.new = Some(Calls::to(self.node, Some("new")));
        }
        self.new.as_ref().unwrap_or(&self.old)
    }
}

#[test]
fn an_upgrade_fails_no_prepare() {
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

    let (over, by_the_new_one) = (AtomicBool::new(false), AtomicBool::new(false));
    let (prepared, failures, pods) = std::thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let mut newest = Newest { node: &node, old: Calls::to(&node, Some("old")), new: None };
            let (mut number, mut by_new, mut failures) = (0, 0, Vec::new());
            while !over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let (claim, oldest) = (&claims[number % CLAIMS], &claims[(number + 1) % CLAIMS]);
                let first = newest.calls().prepare(claim);
                // The kubelet repeats calls, and the answer must be the same.
                let again = newest.calls().prepare(claim);
                by_the_new_one.store(newest.new.is_some(), Ordering::Relaxed);
                if first.is_err() || first != again {
                    failures.push(format!("prepare {number}: {first:?}, then {again:?}"));
                }
                if let Err(error) = newest.calls().unprepare(oldest) {
                    failures.push(format!("unprepare {number}: {error}"));
                }
                number += 1;
                by_new += usize::from(newest.new.is_some());
                std::thread::sleep(PACE.saturating_sub(begun.elapsed()));
            }
            for claim in &claims {
                failures.extend(newest.calls().unprepare(claim).err());
            }
            ((number, by_new), failures)
        });
        let upgrade = scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(1));
            new.start(&["--instance", "new", "--http", "off"]).unwrap();
            new.wait_until_ready(PATIENCE).unwrap();
            // From then on nothing is under way at the old one.
            eventually("a call of the new one", || by_the_new_one.load(Ordering::Relaxed).then_some(()));
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
        let (prepared, failures) = traffic.join().unwrap();
        (prepared, failures, pods)
    });
    let (all, by_new) = prepared;
    println!("{all} claims prepared, {by_new} of them by the new agent, and {pods} pods");
    assert!(failures.is_empty(), "{} failures in {all} prepares: {failures:#?}", failures.len());
    assert!(by_new > 0 && by_new < all, "{by_new} of {all} by the new agent");
    assert!(!team.kubectl(&["get", "events"]).contains("FailedPrepareDynamicResources"));
    assert_eq!(stamps(&node), slices, "not a single write");
    assert!(claims.iter().all(|claim| team.files_of(&claim.uid).is_empty()));
    // The new one undoes what the old one prepared.
    let uid = team.uid_of("pod-0");
    team.delete_pod("pod-0");
    eventually("the files of the claim are gone", || team.files_of(&uid).is_empty().then_some(()));
}
