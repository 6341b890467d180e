//! From the chart and the agent of an earlier revision to today's and back, which two images of one build cannot show.

use e2e::{PATIENCE, Team, bare, eventually};
use simulated_node::Previous;

use crate::registered::{allocate_last, traffic_during};

/// So many claims take turns, so that each stays prepared for a while.
const CLAIMS: usize = 4;

#[test]
fn an_upgrade_from_the_previous_revision_and_the_way_back_fail_no_prepare() {
    let Some(previous) = Previous::given() else {
        return eprintln!("skipped: `cargo xtask test --previous REVISION` builds the earlier agent that this needs");
    };
    let node = bare("previous", "h100x16");
    let release = node.release();
    release.install_previous(&previous, &[]).unwrap();
    release.wait_until_ready(PATIENCE).unwrap();
    node.wait_for_devices(16, PATIENCE).unwrap();
    let team = Team::new(&node, "previous");
    team.run_with_one_gpu("training", &["devices"]);
    let claims = allocate_last(&node, &team, CLAIMS);
    let (traffic, agents) = traffic_during(&node, &claims, || {
        release.install(&[]).unwrap();
        release.wait_until_ready(PATIENCE).unwrap();
        team.run_with_one_gpu("upgraded", &["devices"]);
        release.roll_back().unwrap();
        release.wait_until_ready(PATIENCE).unwrap();
        team.run_with_one_gpu("rolled-back", &["devices"]);
    });
    println!("{} claims prepared, by {} agents", traffic.prepared, agents.len());
    traffic.assert_whole();
    assert_eq!(agents.len(), 3, "the earlier one, today's, the earlier one again: {agents:?}");
    assert!(!team.kubectl(&["get", "events"]).contains("FailedPrepareDynamicResources"));
    node.wait_for_devices(16, PATIENCE).unwrap();
    assert!(claims.iter().all(|claim| team.files_of(&claim.uid).is_empty()));
    // What one agent prepared, whichever, the earlier one undoes.
    for pod in ["training", "upgraded", "rolled-back"] {
        let uid = team.uid_of(pod);
        team.delete_pod(pod);
        eventually("the files of the claim are gone", || team.files_of(&uid).is_empty().then_some(()));
    }
}
