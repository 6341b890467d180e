//! The agent under a kubelet that does all that a real one does with drivers, in a release of choice and in a hurry.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use testkit::api_server::{Fault, Resource};
use testkit::kubelet::{Answer, Neighbour, OPERATION, Operation, Pod, Problem, Settings, Step, Version};
use testkit::{Agent, Claim, GPUS, Kubelet, Node};

use crate::{AGENT, assert_nothing_left};

const NIC: &str = "nic.example.com";

/// A node under a kubelet, with the agent registered and its slices published.
async fn node_under(settings: Settings) -> Node {
    let mut node = Node::new(AGENT, "dgx-h100");
    let wipes = usize::from(settings.wipes);
    node.start_kubelet_as(settings);
    node.wait("the wiping at the start", |node| (node.kubelet().wipes().len() >= wipes).then_some(())).await;
    node.start().await;
    node.wait_for_devices("the devices", |devices| devices.len() == 8).await;
    node
}

async fn node_under_the_newest() -> Node {
    node_under(Settings::of(Version::V1_37)).await
}

/// A claim for each GPU.
fn one_claim_a_gpu(node: &Node) -> Vec<Claim> {
    GPUS.iter().enumerate().map(|(number, gpu)| node.allocated(&format!("claim-{number}"), gpu)).collect()
}

/// What each call was for, and for how many claims.
fn calls(kubelet: &Kubelet) -> Vec<(Operation, usize)> {
    kubelet.calls().into_iter().map(|call| (call.operation, call.claims.len())).collect()
}

#[tokio::test]
async fn a_pods_claims_come_in_one_call_under_every_version() {
    for version in Version::ALL {
        let node = node_under(Settings::of(version)).await;
        let claims = one_claim_a_gpu(&node);
        let pod = Pod::new("pod").claims(&claims);
        let prepared = node.kubelet().pod_runs(&pod).await;
        for (claim, gpu) in prepared.iter().zip(GPUS) {
            let devices = &claim.drivers[Claim::DRIVER];
            assert_eq!((devices.len(), devices[0].device_name.as_str()), (1, gpu), "{version:?}");
            assert_eq!(claim.cdi_ids(Some("gpu")).len(), 1, "{version:?}");
        }
        assert_eq!(node.specs().len(), 8);
        node.kubelet().pod_ends(&pod).await;
        let expected = [(Operation::Prepare, 8), (Operation::Unprepare, 8)];
        assert_eq!(calls(node.kubelet()), expected, "{version:?}");
        assert_nothing_left(&node);
    }
}

#[tokio::test]
async fn another_driver_of_the_same_claim_may_come_first_and_may_fail() {
    let node = node_under(Settings { seed: 3, ..Settings::of(Version::V1_37) }).await;
    let nic = Neighbour::start(&node.kubelet_dir(), NIC, "one");
    let result = json!({"request": "nic", "driver": NIC, "pool": "any", "device": "device-0"});
    let claim = node.known(Claim::new("mixed").device("gpu", GPUS[0]).result(result));
    let pod = Pod::new("pod").claim(&claim);
    let mut orders = BTreeSet::new();
    let mut answers = Vec::new();
    for _ in 0..16 {
        nic.fail(Step::Prepare, 3);
        let before = node.kubelet().calls().len();
        answers.extend(node.kubelet().pod_runs(&pod).await);
        let mut calls = node.kubelet().calls().split_off(before);
        orders.insert(calls.pop().map(|call| call.driver));
        node.kubelet().pod_ends(&pod).await;
        assert_nothing_left(&node);
    }
    assert_eq!(orders.len(), 2, "each comes last some time: {orders:?}");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    assert_eq!(answers[0].cdi_ids(Some("gpu")).len(), 2, "the other one's device is for every request");
}

#[tokio::test]
async fn a_restarted_kubelet_repeats_and_gets_the_same() {
    let node = node_under_the_newest().await;
    let claims = one_claim_a_gpu(&node);
    let (first, second) = (Pod::new("first").claims(&claims), Pod::new("second").claim(&claims[0]));
    let answers = node.kubelet().pod_runs(&first).await;
    let specs = |node: &Node| -> Vec<_> { claims.iter().map(|claim| node.spec(claim)).collect() };
    let written = specs(&node);
    for _ in 0..3 {
        node.kubelet().restart();
        node.api.forget_requests();
        assert_eq!(node.kubelet().pod_runs(&first).await, answers);
        assert_eq!(node.api.requests().of("get", Resource::Claims), 0, "the agent knows them");
    }
    assert_eq!(specs(&node), written);
    assert_eq!(node.kubelet().pod_runs(&second).await, answers[..1]);
    node.kubelet().pod_ends(&first).await;
    assert_eq!(node.specs().len(), 1, "the other pod's");
    node.kubelet().restart();
    node.kubelet().pod_ends(&second).await;
    assert_nothing_left(&node);
}

#[tokio::test]
async fn a_kubelet_that_ends_in_the_middle_of_a_call_finds_everything_later() {
    let node = node_under_the_newest().await;
    let claims = one_claim_a_gpu(&node);
    let pod = Pod::new("pod").claims(&claims);
    node.api.fail(Resource::Claims, 4, Fault::Held);
    let restart = async {
        node.wait("the agent's question", |node| (node.api.requests().of("get", Resource::Claims) >= 4).then_some(()))
            .await;
        node.kubelet().restart();
        node.api.fail_no_more();
    };
    let (broken_off, ()) = tokio::join!(node.kubelet().run_pod(&pod), restart);
    assert!(matches!(broken_off, Err(Problem::Ended)), "{broken_off:?}");
    assert_eq!(node.kubelet().pod_runs(&pod).await.len(), 8);
    assert_eq!(node.specs().len(), 8);
    node.kubelet().pod_ends(&pod).await;
    assert_nothing_left(&node);
}

#[tokio::test]
async fn wiped_slices_come_back() {
    let mut node = node_under_the_newest().await;
    let devices = node.devices();
    // Only those at a start are counted: a slow connection lets the kubelet wipe the driver's once more.
    let at_starts = |node: &Node| node.kubelet().wipes().iter().filter(|wiped| wiped.is_none()).count();
    for _ in 0..3 {
        let before = at_starts(&node);
        node.kubelet().restart();
        node.wait("the wiping", |node| (at_starts(node) > before).then_some(())).await;
        node.wait_for_devices("the devices", |found| found == devices).await;
    }
    // Without an agent they go, and the next one publishes them again.
    node.kill().await;
    let wiped = |node: &Node| {
        let of_the_driver = node.kubelet().wipes().last() == Some(&Some(Claim::DRIVER.to_owned()));
        (of_the_driver && node.devices().is_empty()).then_some(())
    };
    node.wait("the wiping", wiped).await;
    node.start().await;
    node.wait_for_devices("the devices", |found| found == devices).await;
}

#[tokio::test]
async fn an_upgrade_under_a_prepare_every_ten_milliseconds_fails_none() {
    let mut node = Node::new(AGENT, "dgx-h100");
    node.start_kubelet_as(Settings { wipes: false, ..Settings::of(Version::V1_37) });
    node.start_agent(&["--instance", "old"]);
    node.wait("/readyz", |node| node.http("/readyz").filter(|(status, _)| *status == 200)).await;
    let (slices, id) = (node.api.slices(), node.agent().id());
    let registered =
        |count: usize| move |node: &Node| (node.kubelet().endpoints(Claim::DRIVER).len() == count).then_some(());

    let over = std::cell::Cell::new(false);
    let traffic = async {
        let (mut number, mut after) = (0, 0);
        while after < 20 {
            let claim = node.allocated(&format!("claim-{number}"), GPUS[number % 8]);
            let pod = Pod::new(&format!("pod-{number}")).claim(&claim);
            node.kubelet().run_pod(&pod).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
            node.kubelet().end_pod(&pod).await.unwrap();
            number += 1;
            after += u32::from(over.get());
        }
        number
    };
    let upgrade = async {
        let arguments = [node.arguments(), vec!["--instance".to_owned(), "new".to_owned()]].concat();
        let new = Agent::start(Path::new(AGENT), &arguments, &node.path("new.log"));
        node.wait("the new one", registered(2)).await;
        // As the DaemonSet waits for readiness: from here on nothing is under way at the old one.
        let called = |node: &Node| {
            let newest = node.kubelet().endpoints(Claim::DRIVER).pop();
            node.kubelet().calls().pop().filter(|call| Some(&call.endpoint) == newest.as_ref())
        };
        node.wait("a call of the new one", called).await;
        let id = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        node.wait("the old one's end", registered(1)).await;
        over.set(true);
        new
    };
    let (prepared, new) = tokio::join!(traffic, upgrade);
    let endpoints: BTreeSet<_> = node.kubelet().calls().into_iter().map(|call| call.endpoint).collect();
    assert_eq!(endpoints.len(), 2, "{prepared} prepares, by both");
    assert_eq!(node.ended().await.code(), Some(0));
    assert_eq!(node.api.slices(), slices, "not a single write");
    assert_nothing_left(&node);
    drop(new);
}

/// Takes 30 seconds, which is how long the agent waits for the kubelet.
#[tokio::test]
async fn a_failed_registration_that_is_never_retried_is_offered_anew() {
    let mut node = Node::new(AGENT, "dgx-h100");
    let reason = "the endpoint is already registered";
    let answer = Answer::RefuseOnce(reason.to_owned());
    node.start_kubelet_as(Settings { answer, ..Settings::of(Version::V1_34) });
    node.start_agent(&[]);
    node.kubelet().registration(2, Duration::from_secs(30) + testkit::PATIENCE).await;
    let failures = node.kubelet().failures();
    assert_eq!(failures.iter().filter(|failure| failure.contains(reason)).count(), 1, "{failures:?}");
    node.wait("/readyz", |node| node.http("/readyz").filter(|(status, _)| *status == 200)).await;
    let pod = Pod::new("pod").claim(&node.allocated("training", GPUS[0]));
    node.kubelet().pod_runs(&pod).await;
}

#[tokio::test]
async fn a_failed_registration_that_is_retried_needs_nothing_new() {
    for version in [Version::V1_36, Version::V1_37] {
        let answer = Answer::RefuseOnce("the endpoint is already registered".to_owned());
        let mut node = Node::new(AGENT, "dgx-h100");
        node.start_kubelet_as(Settings { answer, ..Settings::of(version) });
        node.start_agent(&[]);
        node.kubelet().registration(2, testkit::PATIENCE).await;
        node.wait("/readyz", |node| node.http("/readyz").filter(|(status, _)| *status == 200)).await;
    }
}

/// Takes 10 seconds, which is how long the agent waits for the API server.
#[tokio::test]
async fn the_agent_answers_before_the_kubelets_deadline_while_the_api_server_hangs() {
    let node = node_under_the_newest().await;
    let known = node.allocated("known", GPUS[0]);
    let answer = node.kubelet().pod_runs(&Pod::new("known").claim(&known)).await;
    node.api.fail(Resource::Claims, 100, Fault::Silent);
    let pod = Pod::new("pod").claim(&known).claim(&node.allocated("unknown", GPUS[1]));
    let problem = node.kubelet().run_pod(&pod).await.unwrap_err();
    let Problem::Refused { claim, error, .. } = problem else { panic!("{problem}") };
    assert!(claim == "unknown" && error.contains("did not answer"), "{claim}: {error}");
    let took = node.kubelet().calls().last().unwrap().took;
    assert!(took < OPERATION, "{took:?}");
    node.api.fail_no_more();
    let prepared = node.kubelet().pod_runs(&pod).await;
    assert_eq!((prepared.len(), &prepared[0]), (2, &answer[0]));
}

#[tokio::test]
async fn a_force_deleted_pods_device_is_given_on_after_its_unprepare() {
    let node = node_under_the_newest().await;
    let old = Pod::new("old").claim(&node.allocated("old", GPUS[0]));
    node.kubelet().pod_runs(&old).await;
    // The claim goes with its pod, and the scheduler gives the device away while the old container may still run.
    node.kubelet().force_delete(&old);
    node.api.delete(Resource::Claims, "team", "old");
    let new = Pod::new("new").claim(&node.allocated("new", GPUS[0]));
    let problem = node.kubelet().run_pod(&new).await.unwrap_err();
    assert!(matches!(&problem, Problem::Refused { error, .. } if error.contains("team/old")), "{problem}");
    node.kubelet().restart();
    node.wait("the agent", |node| (!node.kubelet().endpoints(Claim::DRIVER).is_empty()).then_some(())).await;
    node.kubelet().reconcile().await.unwrap();
    node.kubelet().pod_runs(&new).await;
    assert_eq!(node.specs().len(), 1);
}

#[tokio::test]
async fn a_fault_reaches_the_kubelets_that_ask_for_it() {
    for (version, asked) in [(Version::V1_34, false), (Version::V1_36, true), (Version::V1_37, true)] {
        let mut node = node_under(Settings::of(version)).await;
        let ill = |node: &Node| -> Vec<_> {
            let devices = node.kubelet().health().into_iter().filter(|(_, told)| told.health == "UNHEALTHY");
            devices.map(|((.., device), _)| device).collect()
        };
        node.hardware("set 3 lost=true");
        node.wait("the taint", |node| node.devices().iter().any(|device| !device["taints"].is_null()).then_some(()))
            .await;
        if !asked {
            assert!(node.kubelet().health().is_empty(), "{version:?}");
            continue;
        }
        node.wait("the fault", |node| (ill(node) == [GPUS[3]]).then_some(())).await;
        assert_eq!(node.kubelet().health().len(), 8, "{version:?}");
        // After each end of the stream everything is told at once.
        node.kubelet().restart();
        node.wait("the fault again", |node| (ill(node) == [GPUS[3]]).then_some(())).await;
        node.kill().await;
        node.wait("nothing is known", |node| node.kubelet().health().is_empty().then_some(())).await;
    }
}
