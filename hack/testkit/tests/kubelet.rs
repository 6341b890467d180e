//! The stand-in kubelet beside drivers that do what they are told: each version plays as the real one would.

// Also in helpers of tests, which clippy.toml does not reach.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use serde_json::json;
use tempfile::TempDir;
use tessera_kubelet_api::pod_resources_v1::ListPodResourcesRequest;
use tessera_kubelet_api::pod_resources_v1::pod_resources_lister_client::PodResourcesListerClient;
use testkit::api_server::Resource;
use testkit::kubelet::{
    Answer, Call, Cluster, Kubelet, Neighbour, Operation, Pace, Pod, Problem, Settings, Step, Version,
};
use testkit::{ApiServer, Claim, PATIENCE, until};
use tokio::net::UnixStream;
use tonic::transport::Endpoint;

const NODE: &str = "node-1";
const GPU: &str = "gpu.example.com";
const NIC: &str = "nic.example.com";

/// An API server with a node, and a kubelet's directory.
struct Ground {
    api: ApiServer,
    directory: TempDir,
}

impl Ground {
    fn new() -> Self {
        let ground = Self { api: ApiServer::start(), directory: tempfile::tempdir().unwrap() };
        ground.api.put_node(NODE, "uid-of-the-node");
        ground
    }

    fn kubelet(&self, settings: Settings) -> Kubelet {
        let cluster = Some(Cluster { api: self.api.address(), node: NODE.to_owned() });
        Kubelet::start_as(self.directory.path(), Settings { cluster, ..settings })
    }

    fn driver(&self, driver: &str, instance: &str) -> Neighbour {
        Neighbour::start(self.directory.path(), driver, instance)
    }

    /// A claim with a device of each driver.
    fn claim(&self, name: &str, drivers: &[&str]) -> Claim {
        let result = |driver: &&str| json!({"request": "any", "driver": driver, "pool": "any", "device": "device-0"});
        let claim = drivers.iter().fold(Claim::new(name), |claim, driver| claim.result(result(driver)));
        self.api.put(Resource::Claims, claim.object());
        claim
    }

    fn slice(&self, driver: &str) {
        let object = json!({"metadata": {"name": driver}, "spec": {"nodeName": NODE, "driver": driver}});
        self.api.put(Resource::Slices, object);
    }

    fn slices(&self) -> Vec<String> {
        let slices = self.api.slices();
        slices.iter().map(|slice| slice["spec"]["driver"].as_str().unwrap().to_owned()).collect()
    }
}

async fn wait(what: &str, look: impl Fn() -> bool) {
    until(PATIENCE, || look().then_some(())).await.unwrap_or_else(|| panic!("{what}: not within {PATIENCE:?}"));
}

async fn registered(kubelet: &Kubelet, instances: &[&Neighbour], driver: &str) {
    let endpoints: Vec<_> = instances.iter().map(|instance| instance.endpoint().to_owned()).collect();
    wait(&format!("{driver} at {endpoints:?}"), || kubelet.endpoints(driver) == endpoints).await;
}

/// The drivers of all prepares so far.
fn prepares(kubelet: &Kubelet) -> Vec<String> {
    let calls = kubelet.calls().into_iter().filter(|call| call.operation == Operation::Prepare);
    calls.map(|call| call.driver).collect()
}

/// The pods that pod resources lists, each with its claims and how many devices these have.
async fn listed(kubelet: &Kubelet) -> Vec<(String, Vec<(String, usize)>)> {
    let socket = kubelet.pod_resources().socket().to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://localhost").connect_with_connector(connector).await.unwrap();
    let answer = PodResourcesListerClient::new(channel).list(ListPodResourcesRequest {}).await.unwrap();
    let pods = answer.into_inner().pod_resources.into_iter().map(|pod| {
        let claims = pod.containers.into_iter().flat_map(|container| container.dynamic_resources);
        (pod.name, claims.map(|claim| (claim.claim_name, claim.claim_resources.len())).collect())
    });
    pods.collect()
}

#[tokio::test]
async fn what_becomes_of_a_refused_registration() {
    for version in Version::ALL {
        let ground = Ground::new();
        let answer = Answer::RefuseOnce("no room".to_owned());
        let kubelet = ground.kubelet(Settings { answer, ..Settings::of(version) });
        let mut driver = ground.driver(GPU, "one");
        kubelet.registration(1, PATIENCE).await;
        if !version.retries_registration() {
            // Hundreds of pauses of this pace.
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert_eq!((kubelet.endpoints(GPU).len(), kubelet.registrations().len()), (0, 1), "{version:?}");
            driver.restart();
        }
        registered(&kubelet, &[&driver], GPU).await;
    }
}

#[tokio::test]
async fn what_becomes_of_a_registration_that_the_driver_was_not_told_of() {
    for version in Version::ALL {
        let ground = Ground::new();
        let driver = ground.driver(GPU, "one");
        driver.fail(Step::Notify, 1);
        let kubelet = ground.kubelet(Settings::of(version));
        wait("the failure", || !kubelet.failures().is_empty()).await;
        if version.retries_registration() {
            kubelet.registration(1, PATIENCE).await;
            // It was taken back before the next try, which would have found it there.
            let failures = kubelet.failures();
            let found = failures.iter().find(|failure| failure.contains("already registered"));
            assert_eq!(found, None, "{failures:?}");
        } else {
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert_eq!(kubelet.registrations(), [], "{version:?}");
        }
        // An older kubelet takes it for registered all the same.
        registered(&kubelet, &[&driver], GPU).await;
    }
}

#[tokio::test]
async fn a_socket_that_is_not_served_yet_is_tried_again_by_every_version() {
    for version in Version::ALL {
        let ground = Ground::new();
        let mut driver = ground.driver(GPU, "one");
        driver.crash();
        let kubelet = ground.kubelet(Settings::of(version));
        wait("failures", || kubelet.failures().len() > 2).await;
        driver.restart();
        registered(&kubelet, &[&driver], GPU).await;
    }
}

#[tokio::test]
async fn claims_go_out_in_one_batch_a_driver_and_drivers_in_random_order() {
    let ground = Ground::new();
    let kubelet = ground.kubelet(Settings { seed: 7, ..Settings::of(Version::V1_37) });
    let drivers = [ground.driver(GPU, "one"), ground.driver(NIC, "one")];
    let mut orders = BTreeSet::new();
    for number in 0..32 {
        let claims = [0, 1, 2].map(|part| ground.claim(&format!("claim-{number}-{part}"), &[GPU, NIC]));
        let before = kubelet.calls().len();
        let pod = Pod::new(&format!("pod-{number}")).claims(&claims);
        let prepared = kubelet.pod_runs(&pod).await;
        assert!(prepared.iter().all(|claim| claim.drivers.len() == 2), "{prepared:?}");
        let calls: Vec<Call> = kubelet.calls().split_off(before);
        let uids: Vec<_> = claims.iter().map(|claim| claim.uid.clone()).collect();
        assert!(calls.len() == 2 && calls.iter().all(|call| call.claims == uids), "{calls:?}");
        orders.insert(calls.into_iter().map(|call| call.driver).collect::<Vec<_>>());
    }
    assert_eq!(orders.len(), 2, "{orders:?}");
    drop(drivers);
}

#[tokio::test]
async fn a_failure_is_repeated_for_every_driver() {
    for version in Version::ALL {
        let ground = Ground::new();
        let kubelet = ground.kubelet(Settings::of(version));
        let (gpu, nic) = (ground.driver(GPU, "one"), ground.driver(NIC, "one"));
        registered(&kubelet, &[&gpu], GPU).await;
        registered(&kubelet, &[&nic], NIC).await;
        let claim = ground.claim("claim", &[GPU, NIC]);
        nic.fail(Step::Prepare, 20);
        let pod = Pod::new("pod").claim(&claim);
        let prepared = kubelet.pod_runs(&pod).await;
        let gpu_calls = prepares(&kubelet).iter().filter(|driver| *driver == GPU).count();
        let expected = if version.replaces_devices() { 1 } else { gpu_calls };
        assert!(gpu_calls > 1, "some of 20 times it came first");
        assert_eq!(prepared[0].drivers[GPU].len(), expected, "{version:?}");
    }
}

#[tokio::test]
async fn a_claim_is_prepared_once_a_life_and_undone_with_its_last_pod() {
    let ground = Ground::new();
    let kubelet = ground.kubelet(Settings::of(Version::V1_37));
    let driver = ground.driver(GPU, "one");
    let claim = ground.claim("claim", &[GPU]);
    let pods = [Pod::new("one").claim(&claim), Pod::new("two").claim_of_no_container(&claim)];
    let first = kubelet.pod_runs(&pods[0]).await;
    assert_eq!(kubelet.pod_runs(&pods[1]).await, first);
    assert_eq!(kubelet.pod_runs(&pods[0]).await, first, "a new sandbox");
    assert_eq!(prepares(&kubelet), [GPU]);

    kubelet.restart();
    assert_eq!(kubelet.pod_runs(&pods[0]).await, first);
    assert_eq!(prepares(&kubelet), [GPU, GPU]);

    kubelet.pod_ends(&pods[0]).await;
    kubelet.restart();
    registered(&kubelet, &[&driver], GPU).await;
    driver.fail(Step::Unprepare, 1);
    assert!(matches!(kubelet.end_pod(&pods[1]).await, Err(Problem::Call { .. })));
    assert!(matches!(kubelet.run_pod(&pods[0]).await, Err(Problem::BeingUnprepared(_))));
    kubelet.end_pod(&pods[1]).await.unwrap();
    let calls = kubelet.calls();
    let undone: Vec<_> = calls.iter().filter(|call| call.operation == Operation::Unprepare).collect();
    assert_eq!(undone.len(), 2, "one failed: {undone:?}");
}

#[tokio::test]
async fn a_force_deleted_pod_is_undone_later() {
    let ground = Ground::new();
    let kubelet = ground.kubelet(Settings::of(Version::V1_37));
    let driver = ground.driver(GPU, "one");
    let old = Pod::new("old").claim(&ground.claim("claim", &[GPU]));
    kubelet.pod_runs(&old).await;
    kubelet.force_delete(&old);

    let newer = ground.claim("claim", &[GPU]).uid("another-uid");
    ground.api.delete(Resource::Claims, "team", "claim");
    ground.api.put(Resource::Claims, newer.object());
    let pod = Pod::new("new").claim(&newer);
    let problem = kubelet.run_pod(&pod).await.unwrap_err();
    assert!(problem.to_string().contains("still exists (previous pod force-deleted?!)"), "{problem}");
    kubelet.restart();
    registered(&kubelet, &[&driver], GPU).await;
    kubelet.reconcile().await.unwrap();
    kubelet.pod_runs(&pod).await;
    let operations: Vec<_> = kubelet.calls().iter().map(|call| call.operation).collect();
    assert_eq!(operations, [Operation::Prepare, Operation::Unprepare, Operation::Prepare]);
}

#[tokio::test]
async fn the_latest_instance_is_called_and_an_older_one_in_its_stead() {
    let ground = Ground::new();
    let kubelet = ground.kubelet(Settings::of(Version::V1_37));
    let mut number = 0;
    let mut called = async || {
        number += 1;
        let pod = Pod::new(&format!("pod-{number}")).claim(&ground.claim(&format!("claim-{number}"), &[GPU]));
        kubelet.pod_runs(&pod).await;
        kubelet.calls().pop().unwrap().endpoint
    };
    let old = ground.driver(GPU, "old");
    assert_eq!(called().await, old.endpoint());
    let new = ground.driver(GPU, "new");
    registered(&kubelet, &[&old, &new], GPU).await;
    assert_eq!(called().await, new.endpoint());
    drop(new);
    registered(&kubelet, &[&old], GPU).await;
    assert_eq!(called().await, old.endpoint());
}

#[tokio::test]
async fn slices_are_wiped_at_the_start_and_some_time_after_a_loss() {
    let ground = Ground::new();
    ground.slice(GPU);
    ground.slice(NIC);
    // Slow enough that a connection comes before the countdown ends, 3 s.
    let kubelet = ground.kubelet(Settings { pace: Pace::times(10), ..Settings::of(Version::V1_37) });
    wait("the first wiping", || kubelet.wipes() == [None]).await;
    assert_eq!(ground.slices(), [""; 0]);
    let mut old = ground.driver(GPU, "old");
    registered(&kubelet, &[&old], GPU).await;
    let new = ground.driver(GPU, "new");
    registered(&kubelet, &[&old, &new], GPU).await;
    // A call shows that the later one is connected.
    let pod = Pod::new("pod").claim(&ground.claim("claim", &[GPU]));
    let called = until(PATIENCE, || kubelet.calls().pop().filter(|call| call.endpoint == new.endpoint()));
    let calling = async {
        loop {
            kubelet.pod_runs(&pod).await;
            kubelet.pod_ends(&pod).await;
        }
    };
    tokio::select! {
        called = called => assert!(called.is_some(), "the later one is not called"),
        () = calling => {}
    }
    let before = kubelet.wipes();
    ground.slice(GPU);
    ground.slice(NIC);
    old.crash();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(kubelet.wipes(), before, "the other one is connected");
    drop(new);
    wait("the wiping", || kubelet.wipes().len() > before.len()).await;
    assert_eq!(kubelet.wipes().pop(), Some(Some(GPU.to_owned())));
    assert_eq!(ground.slices(), [NIC]);
}

#[tokio::test]
async fn a_wiping_waits_for_the_api_server() {
    let mut ground = Ground::new();
    ground.slice(GPU);
    ground.api.go_away();
    let kubelet = ground.kubelet(Settings::of(Version::V1_37));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(kubelet.wipes(), []);
    ground.api.come_back();
    wait("the wiping", || kubelet.wipes() == [None]).await;
    assert_eq!(ground.slices(), [""; 0]);
}

#[tokio::test]
async fn pods_that_cannot_run_say_why() {
    let ground = Ground::new();
    let kubelet = ground.kubelet(Settings::of(Version::V1_37));
    let pod = |claim: &Claim| Pod::new("pod").claim(claim);
    let unknown = Claim::new("unknown");
    assert!(matches!(kubelet.run_pod(&pod(&unknown)).await, Err(Problem::Unreadable { .. })));
    let waiting = Claim::new("waiting").unallocated();
    ground.api.put(Resource::Claims, waiting.object());
    assert!(matches!(kubelet.run_pod(&pod(&waiting)).await, Err(Problem::NotAllocated(_))));
    let claim = ground.claim("claim", &[GPU]);
    assert!(matches!(kubelet.run_pod(&pod(&claim)).await, Err(Problem::NotRegistered(driver)) if driver == GPU));
    let mut driver = ground.driver(GPU, "one");
    kubelet.pod_runs(&pod(&claim)).await;
    driver.crash();
    let other = ground.claim("other", &[GPU]);
    assert!(matches!(kubelet.run_pod(&pod(&other)).await, Err(Problem::Call { .. })));
    driver.restart();
    kubelet.pod_runs(&pod(&other)).await;
    kubelet.stop();
    assert!(matches!(kubelet.run_pod(&pod(&other)).await, Err(Problem::Ended)));
}

#[tokio::test]
async fn pod_resources_follows_the_pods() {
    let mut ground = Ground::new();
    let kubelet = ground.kubelet(Settings::of(Version::V1_37));
    let (gpu, nic) = (ground.driver(GPU, "one"), ground.driver(NIC, "one"));
    registered(&kubelet, &[&gpu], GPU).await;
    registered(&kubelet, &[&nic], NIC).await;
    let entry = |pod: &str, claims: &[(&str, usize)]| {
        (pod.to_owned(), claims.iter().map(|(claim, devices)| ((*claim).to_owned(), *devices)).collect::<Vec<_>>())
    };

    let (used, unused) = (ground.claim("used", &[GPU]), ground.claim("unused", &[NIC]));
    let pod = Pod::new("pod").claim(&used).claim_of_no_container(&unused);
    gpu.fail(Step::Prepare, 1);
    kubelet.run_pod(&pod).await.unwrap_err();
    assert_eq!(listed(&kubelet).await, [entry("pod", &[("used", 0)])], "active, and nothing known of the claim");
    kubelet.pod_runs(&pod).await;
    let running = [entry("pod", &[("used", 1)])];
    assert_eq!(listed(&kubelet).await, running);

    // A kubelet that starts while the API server is away knows no pods, though their containers run.
    ground.api.go_away();
    kubelet.restart();
    assert_eq!(listed(&kubelet).await, []);
    ground.api.come_back();
    let begun = std::time::Instant::now();
    while listed(&kubelet).await != running {
        assert!(begun.elapsed() < PATIENCE, "the pod is not listed again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    gpu.fail(Step::Unprepare, 1);
    registered(&kubelet, &[&gpu], GPU).await;
    registered(&kubelet, &[&nic], NIC).await;
    kubelet.end_pod(&pod).await.unwrap_err();
    assert_eq!(listed(&kubelet).await, running, "terminating");
    kubelet.force_delete(&pod);
    assert_eq!(listed(&kubelet).await, []);
    kubelet.reconcile().await.unwrap();
}
