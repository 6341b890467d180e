//! Claims, from the kubelet's call to the file that the container runtime reads.

use serde_json::json;
use testkit::api_server::{Fault, Resource};
use testkit::{Claim, GPUS};

use crate::{assert_nothing_left, node};

#[tokio::test]
async fn a_claim_is_prepared_and_undone() {
    let (node, plugin) = node().await;
    let claim = node.allocated("training", GPUS[0]);
    let devices = plugin.prepare(&claim).await.unwrap();
    insta::assert_debug_snapshot!("answer", devices);
    insta::assert_json_snapshot!("spec", node.anonymous_json(&node.spec(&claim).unwrap()));
    assert_eq!(node.records(), [format!("{}.record", claim.uid)]);
    plugin.unprepare(&claim).await.unwrap();
    assert_nothing_left(&node);
}

#[tokio::test]
async fn a_repeated_call_gives_the_same_answer_and_asks_nobody() {
    let (node, plugin) = node().await;
    let claim = node.allocated("training", GPUS[0]);
    let first = plugin.prepare(&claim).await.unwrap();
    let spec = node.spec(&claim);
    node.api.delete(Resource::Claims, "team", "training");
    node.api.forget_requests();
    for _ in 0..3 {
        assert_eq!(plugin.prepare(&claim).await.unwrap(), first);
    }
    assert_eq!(node.spec(&claim), spec);
    assert_eq!(node.api.requests().of("get", Resource::Claims), 0);
}

#[tokio::test]
async fn a_repeated_call_mends_the_spec() {
    let (node, plugin) = node().await;
    let claim = node.allocated("training", GPUS[0]);
    let first = plugin.prepare(&claim).await.unwrap();
    let spec = node.spec(&claim);
    let path = node.spec_path(&claim);
    let damages: [&dyn Fn(); 4] = [
        &|| std::fs::remove_file(&path).unwrap(),
        &|| std::fs::write(&path, "").unwrap(),
        &|| std::fs::write(&path, spec.as_ref().unwrap().to_string().replace("rw", "rwm")).unwrap(),
        &|| std::fs::remove_dir_all(node.cdi_dir()).unwrap(),
    ];
    for damage in damages {
        damage();
        assert_eq!(plugin.prepare(&claim).await.unwrap(), first);
        assert_eq!(node.spec(&claim), spec);
    }
}

#[tokio::test]
async fn undoing_needs_no_api_server_and_no_knowledge() {
    let (mut node, plugin) = node().await;
    let claim = node.allocated("training", GPUS[0]);
    plugin.prepare(&claim).await.unwrap();
    node.api.go_away();
    plugin.unprepare(&claim).await.unwrap();
    plugin.unprepare(&claim).await.unwrap();
    plugin.unprepare(&Claim::new("never-seen")).await.unwrap();
    assert_nothing_left(&node);
}

#[tokio::test]
async fn the_older_protocol_gives_the_same() {
    let (node, plugin) = node().await;
    let claim = node.allocated("training", GPUS[0]);
    let old = plugin.prepare_v1beta1(&claim).await.unwrap();
    let new = plugin.prepare(&claim).await.unwrap();
    assert_eq!(old.len(), 1);
    assert_eq!(
        (&old[0].request_names, &old[0].pool_name, &old[0].device_name, &old[0].cdi_device_ids),
        (&new[0].request_names, &new[0].pool_name, &new[0].device_name, &new[0].cdi_device_ids)
    );
}

#[tokio::test]
async fn several_claims_in_one_call_stand_for_themselves() {
    let (node, plugin) = node().await;
    let good = [node.allocated("one", GPUS[0]), node.allocated("two", GPUS[1])];
    let bad = Claim::new("deleted");
    let answers = plugin.prepare_all(&[&good[0], &bad, &good[1]]).await.unwrap();
    assert_eq!(answers.len(), 3);
    assert!(good.iter().all(|claim| answers[&claim.uid].is_ok()), "{answers:?}");
    assert!(answers[&bad.uid].is_err());
    let answers = plugin.unprepare_all(&[&good[0], &bad, &good[1]]).await.unwrap();
    assert!(answers.len() == 3 && answers.values().all(Result::is_ok), "{answers:?}");
    assert_nothing_left(&node);
}

#[tokio::test]
async fn several_claims_in_one_call_cost_one_round_trip() {
    let (node, plugin) = node().await;
    let claims: Vec<_> = (0..8).map(|gpu| node.allocated(&format!("claim-{gpu}"), GPUS[gpu])).collect();
    // None of the GETs is answered before all of them have come.
    node.api.fail(Resource::Claims, 8, Fault::Held);
    let all: Vec<_> = claims.iter().collect();
    let release = async {
        node.wait("all GETs", |node| (node.api.requests().of("get", Resource::Claims) == 8).then_some(())).await;
        node.api.fail_no_more();
    };
    let (answers, ()) = tokio::join!(plugin.prepare_all(&all), release);
    assert!(answers.as_ref().unwrap().values().all(Result::is_ok), "{answers:?}");
}

#[tokio::test]
async fn what_a_claim_may_hold() {
    let (node, plugin) = node().await;
    let other =
        |request: &str| json!({"request": request, "driver": "nic.example.com", "pool": "any", "device": "nic-0"});
    let elsewhere = json!({"kind": "NicConfig", "apiVersion": "nic.example.com/v1"});

    let subrequest = node.known(Claim::new("first-available").device("gpu/large", GPUS[0]));
    assert_eq!(plugin.prepare(&subrequest).await.unwrap()[0].request_names, ["gpu"]);

    let mixed =
        Claim::new("mixed").result(other("nic")).device("gpu", GPUS[1]).config("nic.example.com", &[], elsewhere);
    let mixed = node.known(mixed);
    assert_eq!(plugin.prepare(&mixed).await.unwrap().len(), 1, "the other driver's device and config are not ours");

    let foreign = node.known(Claim::new("only-others").result(other("nic")));
    assert_eq!(plugin.prepare(&foreign).await.unwrap(), []);
    assert_eq!(node.spec(&foreign), None);

    let shares = node.known(Claim::new("shares").share("a", GPUS[2], "s1").share("b", GPUS[2], "s2"));
    let prepared = plugin.prepare(&shares).await.unwrap();
    let ids: Vec<_> = prepared.iter().map(|device| device.share_id.as_deref()).collect();
    assert_eq!(ids, [Some("s1"), Some("s2")]);

    let many = node.known(Claim::new("many").device("a", GPUS[3]).device("a", GPUS[4]).device("b", GPUS[5]));
    assert_eq!(plugin.prepare(&many).await.unwrap().len(), 3);
}

#[tokio::test]
async fn what_cannot_be_prepared_is_refused_with_its_reason() {
    let (node, plugin) = node().await;
    let result =
        |pool: &str, device: &str| json!({"request": "gpu", "driver": Claim::DRIVER, "pool": pool, "device": device});
    let sharing = json!({"strategy": "MPS"});
    let config = json!({"apiVersion": "resource.nvidia.com/v1beta1", "kind": "GpuConfig", "sharing": sharing});
    node.allocated("replaced", GPUS[0]);
    let mut texts = Vec::new();
    for claim in [
        Claim::new("deleted"),
        Claim::new("replaced").uid("0ld00000-0000-4000-8000-000000000001"),
        node.known(Claim::new("not-allocated").unallocated()),
        node.known(Claim::new("gone").device("gpu", "gpu-0000-ff-00-0")),
        node.known(Claim::new("foreign-pool").result(result("node-2/gpu.nvidia.com", GPUS[0]))),
        node.known(Claim::new("hostile-device").result(result(Claim::POOL, "../../etc/passwd"))),
        node.known(Claim::new("opaque").device("gpu", GPUS[0]).config(Claim::DRIVER, &[], config.clone())),
        node.known(Claim::new("opaque-of-request").device("gpu", GPUS[0]).config(Claim::DRIVER, &["gpu"], config)),
        node.known(Claim::new("half").device("a", GPUS[0]).device("b", "gpu-0000-ff-00-0")),
        Claim::new("hostile-uid").uid("../../../x"),
        Claim::new("empty-uid").uid(""),
        Claim::new("../../nodes/node-1"),
        Claim::new("hostile-namespace").namespace("../.."),
        Claim::new(""),
    ] {
        let refusal = plugin.prepare(&claim).await.unwrap_err();
        assert!(refusal.len() < 256, "an event holds less: {refusal:?}");
        texts.push(format!("{}: {refusal}", claim.name));
    }
    insta::assert_json_snapshot!(texts);
    assert_nothing_left(&node);
    assert!(!node.path("x").exists() && !node.path("x.json").exists());
}

#[tokio::test]
async fn undoing_what_has_a_hostile_uid_harms_nothing() {
    let (node, plugin) = node().await;
    std::fs::write(node.path("x.record"), "mine").unwrap();
    for uid in ["../../x", "", "/", "a/../b"] {
        let answers = plugin.unprepare_all(&[&Claim::new("hostile").uid(uid)]).await.unwrap();
        assert!(answers[uid].is_err(), "{uid:?}: {answers:?}");
    }
    assert!(node.path("x.record").exists());
}

#[tokio::test]
async fn a_device_is_given_to_one_claim() {
    let (node, plugin) = node().await;
    let (first, second) = (node.allocated("first", GPUS[0]), node.allocated("second", GPUS[0]));
    plugin.prepare(&first).await.unwrap();
    let refusal = plugin.prepare(&second).await.unwrap_err();
    insta::assert_snapshot!(refusal);
    assert_eq!(node.spec(&second), None);
    plugin.unprepare(&first).await.unwrap();
    plugin.prepare(&second).await.unwrap();
    assert!(plugin.prepare(&first).await.is_err());
}

#[tokio::test]
async fn two_claims_at_once_get_one_device_once() {
    let (node, plugin) = node().await;
    for round in 0..10 {
        let claims: Vec<_> = (0..4).map(|number| node.allocated(&format!("claim-{round}-{number}"), GPUS[0])).collect();
        let answers = plugin.prepare_all(&claims.iter().collect::<Vec<_>>()).await.unwrap();
        assert_eq!(answers.values().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
        plugin.unprepare_all(&claims.iter().collect::<Vec<_>>()).await.unwrap();
        assert_nothing_left(&node);
    }
}

#[tokio::test]
async fn admin_access_is_given_beside_a_holder() {
    let (node, plugin) = node().await;
    let holder = node.allocated("holder", GPUS[0]);
    let watcher = node.known(Claim::new("watcher").admin("watch", GPUS[0]));
    plugin.prepare(&holder).await.unwrap();
    plugin.prepare(&watcher).await.unwrap();
    plugin.unprepare(&holder).await.unwrap();
    let next = node.allocated("next", GPUS[0]);
    plugin.prepare(&next).await.unwrap();
    assert_eq!(node.specs().len(), 2);
}
