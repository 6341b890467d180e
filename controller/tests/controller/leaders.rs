use std::time::{Duration, Instant};

use serde_json::json;
use testkit::api_server::{Fault, Resource};

use crate::ground::Ground;

#[test]
fn leaders_that_are_killed_are_replaced_and_never_are_too_many_nodes_changing() {
    let mut ground = Ground::new(12);
    let mut replicas = [ground.start("a", &[]), ground.start("b", &[])];
    ground.put_policy(json!({"maxUnavailable": 2}));
    for round in 0..3_usize {
        let wanted = 3 * (round + 1);
        let [a, b] = &replicas;
        ground.until("some are shared", &[a, b], |ground| {
            ground.policy().is_some_and(|(nodes, _)| nodes["ready"].as_u64() >= u64::try_from(wanted).ok())
        });
        let leads = usize::from(ground.leader().as_deref() != Some(["a", "b"][0]));
        replicas[leads].kill();
        replicas[leads] = ground.start(["a", "b"][leads], &[]);
    }
    let [a, b] = &replicas;
    ground.until("all are shared", &[a, b], |ground| ground.policy().is_some_and(|(_, reason)| reason == "Complete"));
    assert!((1..=2).contains(&ground.most_at_once), "{} at once", ground.most_at_once);
}

#[test]
fn who_is_told_to_end_gives_the_lease_up() {
    let mut ground = Ground::new(1);
    let mut first = ground.start("first", &["--lease-seconds", "30"]);
    ground.until("somebody leads", &[&first], |ground| ground.leader().is_some());
    let second = ground.start("second", &["--lease-seconds", "2"]);
    assert!(first.stop().success());
    let begun = Instant::now();
    ground.until("the other leads", &[&second], |ground| ground.leader().as_deref() == Some("second"));
    assert!(begun.elapsed() < Duration::from_secs(15), "it did not wait for the end of the lease");
}

#[test]
fn who_cannot_renew_the_lease_ends() {
    let mut ground = Ground::new(1);
    let mut replica = ground.start("a", &[]);
    ground.until("somebody leads", &[&replica], |ground| ground.leader().is_some());
    ground.server.fail_verb("update", Resource::Leases, usize::MAX, Fault::Silent);
    let mut ended = None;
    let begun = Instant::now();
    while ended.is_none() && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(20));
        ended = replica.ended();
    }
    assert_eq!(ended.and_then(|status| status.code()), Some(1), "{}", replica.text());
    assert!(replica.text().contains("the lease could not be renewed"), "{}", replica.text());
}
