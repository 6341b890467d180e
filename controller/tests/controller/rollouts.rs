use serde_json::json;
use testkit::api_server::Resource;

use crate::ground::Ground;

fn complete(ground: &Ground) -> bool {
    ground.policy().is_some_and(|(_, reason)| reason == "Complete")
}

#[test]
fn a_policy_is_carried_out_changed_and_withdrawn() {
    let mut ground = Ground::new(6);
    let replica = ground.start("a", &[]);
    ground.put_policy(json!({"maxUnavailable": 2}));
    ground.until("all are shared", &[&replica], |ground| complete(ground));
    assert_eq!(ground.policy().unwrap().0, json!({"matched": 6, "ready": 6, "changing": 0, "failed": 0, "waiting": 0}));
    assert!(ground.most_at_once <= 2, "{} at once", ground.most_at_once);
    for index in 0..6 {
        let node = format!("n{index}");
        assert_eq!(ground.nodes.layouts(&node), [json!({"shares": {"count": 2}}), json!({"shares": {"count": 2}})]);
        let layout = ground.server.get(Resource::NodeLayouts, "", &node).unwrap();
        assert_eq!(layout["metadata"]["ownerReferences"][0]["uid"], format!("uid-{index}"));
    }
    // The event comes after the status.
    ground.until("it is told", &[&replica], |ground| {
        ground.server.events().iter().any(|(reason, _)| reason == "Complete")
    });

    ground.server.edit(Resource::Policies, "", "p", |policy| {
        policy["spec"]["rules"] =
            json!([{"maxPerNode": 1, "layout": {"partitions": [{"profile": "1g.10gb", "count": 7}]}}]);
    });
    let cut = json!({"partitions": [{"profile": "1g.10gb", "count": 7}]});
    ground.until("one of each is cut, the other is given back", &[&replica], |ground| {
        complete(ground)
            && (0..6).all(|index| {
                let devices = ground.nodes.layouts(&format!("n{index}"));
                devices.iter().filter(|layout| **layout == cut).count() == 1
                    && devices.iter().any(|layout| layout.is_null())
            })
    });

    ground.server.ask_to_delete(Resource::Policies, "", "p");
    ground.until("everything is given back", &[&replica], |ground| {
        ground.policy().is_none() && ground.server.list(Resource::NodeLayouts).is_empty()
    });
    assert!((0..6).all(|index| ground.nodes.layouts(&format!("n{index}")).iter().all(|layout| layout.is_null())));
    assert!(ground.most_at_once <= 2, "{} at once", ground.most_at_once);
}

#[test]
fn a_failure_stops_it_until_another_attempt() {
    let mut ground = Ground::new(4);
    let replica = ground.start("a", &[]);
    ground.nodes.fail("n1", true);
    // Not before all are known: of those that are, the first is begun with.
    ground.put_policy(json!({"order": "Name", "paused": true}));
    ground
        .until("all are known", &[&replica], |ground| ground.policy().is_some_and(|(nodes, _)| nodes["waiting"] == 4));
    ground.server.edit(Resource::Policies, "", "p", |policy| policy["spec"]["rollout"]["paused"] = json!(false));
    ground.until("it stops", &[&replica], |ground| {
        ground
            .policy()
            .is_some_and(|(nodes, reason)| reason == "Failed" && nodes["changing"] == 0 && nodes["waiting"] == 2)
    });
    let failures = ground.server.get(Resource::Policies, "", "p").unwrap()["status"]["failures"].clone();
    assert_eq!(
        (&failures[0]["node"], &failures[0]["message"]),
        (&json!("n1"), &json!("the driver refuses; see dmesg"))
    );
    ground.nodes.fail("n1", false);
    ground.server.edit(Resource::Policies, "", "p", |policy| policy["spec"]["rollout"]["attempt"] = json!(1));
    ground.until("all are shared", &[&replica], |ground| complete(ground));
}

#[test]
fn a_node_that_is_not_heard_of_waits_and_one_that_goes_is_forgotten() {
    let mut ground = Ground::new(3);
    let replica = ground.start("a", &[]);
    ground.nodes.silence("n0", true);
    ground.put_policy(json!({}));
    ground.until("the others are done", &[&replica], |ground| {
        ground.policy().is_some_and(|(nodes, reason)| reason == "Waiting" && nodes["ready"] == 2)
    });
    ground.server.delete(Resource::Nodes, "", "n0");
    ground.until("it is forgotten", &[&replica], |ground| {
        complete(ground) && ground.server.get(Resource::NodeLayouts, "", "n0").is_none()
    });
}

#[test]
fn a_node_that_is_not_ready_is_passed_over_and_waited_for() {
    let mut ground = Ground::new(4);
    let replica = ground.start("a", &[]);
    let ready = |status: &str| json!({"conditions": [{"type": "Ready", "status": status, "lastTransitionTime": "2026-11-20T08:00:00Z"}]});
    ground.server.edit(Resource::Nodes, "", "n0", |node| node["status"] = ready("Unknown"));
    ground.put_policy(json!({"maxUnavailable": 2, "order": "Name"}));
    ground.until("the others are done", &[&replica], |ground| {
        ground.policy().is_some_and(|(nodes, reason)| reason == "Waiting" && nodes["ready"] == 3)
    });
    assert_eq!(ground.most_at_once, 1, "it counts itself");
    let conditions = ground.server.get(Resource::Policies, "", "p").unwrap()["status"]["conditions"].clone();
    let message = conditions[0]["message"].as_str().unwrap();
    assert!(message.contains("waiting for n0 (not ready since 2026-11-20T08:00:00Z)"), "{message}");
    ground.server.edit(Resource::Nodes, "", "n0", |node| node["status"] = ready("True"));
    ground.until("it is done too", &[&replica], |ground| complete(ground));
}

#[test]
fn who_starts_again_with_nothing_changed_writes_nothing() {
    let mut ground = Ground::new(3);
    let mut replica = ground.start("a", &[]);
    ground.put_policy(json!({"maxUnavailable": "100%"}));
    ground.until("all are shared", &[&replica], |ground| complete(ground));
    assert!(replica.stop().success());
    ground.server.forget_requests();
    let again = ground.start("b", &[]);
    ground.until("it has listed everything", &[&again], |ground| {
        ground.server.requests().of("watch", Resource::NodeLayouts) > 0
    });
    std::thread::sleep(std::time::Duration::from_millis(500));
    let requests = ground.server.requests();
    for resource in [Resource::Policies, Resource::NodeLayouts, Resource::Events] {
        let writes: usize =
            ["create", "update", "patch", "delete"].iter().map(|verb| requests.of(verb, resource)).sum();
        assert_eq!(writes, 0, "{resource:?}");
    }
}
