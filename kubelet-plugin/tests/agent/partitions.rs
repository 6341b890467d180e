//! Partitions: those that an admin made, and those that are made when a claim is prepared.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use simulated_hardware::Call;
use testkit::kubelet::Answer;
use testkit::{Claim, Node, Plugin};

use crate::{AGENT, assert_nothing_left};

/// The GPUs of the profile `a100-h100`.
const A100: &str = "gpu-0000-3b-00-0";
const H100: &str = "gpu-0000-af-00-0";

/// A node with an A100, whose MIG mode an admin has switched on, and an H100. Both are cut on demand.
async fn cutting() -> (Node, Plugin) {
    let mut node = cuttable();
    let plugin = start(&mut node, &["--offer", "partitions"]).await;
    (node, plugin)
}

fn cuttable() -> Node {
    let mut node = Node::new(AGENT, "a100-h100");
    node.start_kubelet(Answer::Confirm);
    node.hardware("mig 0 on");
    node.hardware("reset 0");
    node
}

async fn start(node: &mut Node, flags: &[&str]) -> Plugin {
    let known = node.kubelet().registrations().len();
    node.start_agent(flags);
    node.wait("the agent", |node| node.ready_after(known)).await;
    node.connect().await
}

/// The names of the published devices that hold this.
fn named(node: &Node, part: &str) -> Vec<String> {
    let names = node.devices().into_iter().map(|device| device["name"].as_str().unwrap().to_owned());
    names.filter(|name| name.contains(part)).collect()
}

fn on(gpu: &str, rest: &str) -> String {
    format!("{gpu}-mig-{rest}")
}

/// GPU instances of a GPU, as the machine has them: profile and first slice.
fn instances(node: &Node, gpu: usize) -> BTreeSet<(u32, u32)> {
    let hardware = node.machine().hardware().unwrap();
    hardware.gpus[gpu].mig.gpu_instances.iter().map(|one| (one.profile, one.placement.start)).collect()
}

#[tokio::test]
async fn a_partition_is_made_and_removed() {
    let (node, plugin) = cutting().await;
    assert_eq!(named(&node, A100).len(), 25, "cut already, so not as a whole");
    assert_eq!(named(&node, H100).len(), 26);
    let slices = node.api.slices();
    for (gpu, index, profile) in [(A100, 0, "3g20gb-9-4"), (H100, 1, "3g40gb-9-4")] {
        let claim = node.allocated("training", &on(gpu, profile));
        let devices = plugin.prepare(&claim).await.unwrap();
        assert_eq!(devices[0].device_name, on(gpu, profile));
        assert_eq!(instances(&node, index), BTreeSet::from([(9, 4)]));
        assert_eq!(plugin.prepare(&claim).await.unwrap(), devices, "repeated");
        plugin.unprepare(&claim).await.unwrap();
        assert_eq!(instances(&node, index), BTreeSet::new());
        assert_eq!(
            node.machine().hardware().unwrap().gpus[index].mig.mode,
            gpu == A100,
            "a whole again, if that takes no reset"
        );
        assert_nothing_left(&node);
    }
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(node.api.slices(), slices, "nothing is written for what comes and goes with claims");
}

#[tokio::test]
async fn a_gpu_is_filled_and_then_used_as_a_whole() {
    let (node, plugin) = cutting().await;
    let profiles = ["4g40gb-5-0", "2g20gb-14-4", "1g10gb-19-6"];
    let claims: Vec<_> = profiles.iter().map(|profile| node.allocated(profile, &on(H100, profile))).collect();
    let all = plugin.prepare_all(&claims.iter().collect::<Vec<_>>()).await.unwrap();
    assert!(all.values().all(Result::is_ok), "{all:?}");
    assert_eq!(instances(&node, 1), BTreeSet::from([(5, 0), (14, 4), (19, 6)]));

    let whole = node.allocated("whole", H100);
    let overlapping = node.allocated("overlapping", &on(H100, "3g40gb-9-4"));
    for claim in [&whole, &overlapping] {
        let refusal = plugin.prepare(claim).await.unwrap_err();
        assert!(refusal.contains("is still held by claim team/"), "{refusal}");
    }
    for claim in &claims {
        plugin.unprepare(claim).await.unwrap();
    }
    plugin.prepare(&whole).await.unwrap();
    assert!(!node.machine().hardware().unwrap().gpus[1].mig.mode, "MIG mode is off for a whole GPU");
    plugin.unprepare(&whole).await.unwrap();
    assert_nothing_left(&node);
}

#[tokio::test]
async fn what_an_admin_made_is_published_and_never_touched() {
    for flags in [&[][..], &["--offer", "partitions"]] {
        let mut node = cuttable();
        node.hardware("mig 0 create 3g.20gb@4");
        let plugin = start(&mut node, flags).await;
        let own = on(A100, "3g20gb-9-4");
        let devices = node.devices();
        let device = devices.iter().find(|device| device["name"] == own.as_str()).unwrap();
        let uuid = device["attributes"]["uuid"]["string"].as_str().unwrap().to_owned();
        assert!(uuid.starts_with("MIG-"), "{device}");
        // Only what has room beside it is offered too: 1g and 1g+me at 0 to 3, 1g.10gb and 2g at 0 and 2, 3g and 4g at 0.
        let beside = if flags.is_empty() { 0 } else { 4 + 4 + 2 + 2 + 1 + 1 };
        assert_eq!(named(&node, A100).len() - 1, beside);
        assert!(named(&node, A100).iter().all(|name| !name.contains("7g") && *name != A100));

        let claim = node.allocated("training", &own);
        plugin.prepare(&claim).await.unwrap();
        plugin.unprepare(&claim).await.unwrap();
        assert_eq!(instances(&node, 0), BTreeSet::from([(9, 4)]));
        let in_the_way = node.allocated("other", &on(A100, "2g10gb-14-4"));
        assert!(plugin.prepare(&in_the_way).await.is_err());

        node.hardware("mig 0 destroy 2");
        let changed = |node: &Node| {
            let there = node.devices().iter().any(|device| device["attributes"]["uuid"]["string"] == uuid.as_str());
            (!there).then_some(())
        };
        node.wait("a change by hand in the slices", changed).await;
    }
}

#[tokio::test]
async fn an_error_of_the_driver_at_any_step_leaves_nothing() {
    let (node, plugin) = cutting().await;
    let claim = node.allocated("training", &on(H100, "2g20gb-14-2"));
    for (function, error) in [
        ("nvmlDeviceSetMigMode", "UNKNOWN"),
        ("nvmlDeviceCreateGpuInstanceWithPlacement", "INSUFFICIENT_RESOURCES"),
        ("nvmlGpuInstanceGetInfo", "UNKNOWN"),
        ("nvmlGpuInstanceCreateComputeInstance", "UNKNOWN"),
        ("nvmlComputeInstanceGetInfo_v2", "UNKNOWN"),
    ] {
        node.hardware("mig 1 off");
        node.hardware(&format!("set 1 fail={function}:{error} times=1"));
        // The next look at the hardware may be the one that meets it.
        let refused = plugin.prepare(&claim).await;
        node.hardware("set fail=none");
        let ready = |node: &Node| node.devices().iter().all(|device| device["taints"].is_null()).then_some(());
        node.wait("the GPU to answer", ready).await;
        if let Err(refusal) = refused {
            assert!(refusal.len() < 256 && refusal.contains(function), "{refusal}");
            assert_nothing_left(&node);
            assert_eq!(instances(&node, 1), BTreeSet::new(), "{function}");
        }
        plugin.prepare(&claim).await.unwrap();
        assert_eq!(instances(&node, 1), BTreeSet::from([(14, 2)]), "{function}");
        plugin.unprepare(&claim).await.unwrap();
        assert_eq!(instances(&node, 1), BTreeSet::new(), "{function}");
        assert_nothing_left(&node);
    }
}

#[tokio::test]
async fn what_cannot_be_removed_keeps_its_record_until_it_can() {
    let (node, plugin) = cutting().await;
    let claim = node.allocated("training", &on(H100, "2g20gb-14-2"));
    plugin.prepare(&claim).await.unwrap();
    for function in ["nvmlComputeInstanceDestroy", "nvmlGpuInstanceDestroy"] {
        node.hardware(&format!("set 1 fail={function}:UNKNOWN times=1"));
        let refusal = plugin.unprepare(&claim).await.unwrap_err();
        assert!(refusal.contains(function), "{refusal}");
        assert!(node.record_path(&claim).exists() && node.spec(&claim).is_none());
        let other = node.allocated("other", &on(H100, "2g20gb-14-2"));
        assert!(plugin.prepare(&other).await.unwrap_err().contains("is still held by claim"));
    }
    plugin.unprepare(&claim).await.unwrap();
    assert_eq!(instances(&node, 1), BTreeSet::new());
    assert_nothing_left(&node);
}

/// A partition that somebody destroyed under a claim is made again for the next container.
#[tokio::test]
async fn a_partition_that_vanished_is_made_again() {
    let (node, plugin) = cutting().await;
    let claim = node.allocated("training", &on(H100, "2g20gb-14-2"));
    let answer = plugin.prepare(&claim).await.unwrap();
    node.hardware("mig 1 destroy 4");
    assert_eq!(instances(&node, 1), BTreeSet::new());
    assert_eq!(plugin.prepare(&claim).await.unwrap(), answer);
    assert_eq!(instances(&node, 1), BTreeSet::from([(14, 2)]));
    plugin.unprepare(&claim).await.unwrap();
    assert_nothing_left(&node);
}

/// Ampere: without a reset there are no partitions.
#[tokio::test]
async fn a_gpu_that_is_switched_by_a_reset_alone_is_offered_as_it_is() {
    let mut node = Node::new(AGENT, "a100-h100");
    node.start_kubelet(Answer::Confirm);
    start(&mut node, &["--offer", "partitions"]).await;
    assert_eq!(named(&node, A100), [A100]);
    node.hardware("mig 0 on");
    node.hardware("reset 0");
    node.wait("the partitions", |node| (named(node, A100).len() == 25).then_some(())).await;
    assert!(!named(&node, A100).contains(&A100.to_owned()));
}

/// Kubernetes 1.34, and 1.35 without the gate: overlapping partitions would be given away together.
#[tokio::test]
async fn where_the_server_drops_counters_only_wholes_are_offered() {
    let mut node = cuttable();
    node.api.drop_device_field("consumesCounters");
    node.api.drop_device_field("sharedCounters");
    start(&mut node, &["--offer", "partitions"]).await;
    let wholes = |node: &Node| (named(node, "gpu") == [H100]).then_some(());
    node.wait("the safe projection", wholes).await;
    node.hardware("mig 0 create 3g.20gb@4");
    let with_static = |node: &Node| (named(node, "gpu") == [on(A100, "3g20gb-9-4"), H100.to_owned()]).then_some(());
    node.wait("what is there already", with_static).await;
}

/// Half of a claim's work is done, and the agent dies.
#[tokio::test]
async fn a_killed_agents_half_made_partition_is_finished_or_removed() {
    let (mut node, plugin) = cutting().await;
    let claim: Claim = node.allocated("training", &on(H100, "2g20gb-14-2"));
    for function in ["nvmlDeviceSetMigMode", "nvmlGpuInstanceCreateComputeInstance", "nvmlGpuInstanceGetInfo"] {
        for retried in [true, false] {
            let plugin = if retried { plugin.clone() } else { node.connect().await };
            node.hardware(&format!("set 1 latency_ms=60000 function={function} times=1"));
            let call = tokio::spawn({
                let (plugin, claim) = (plugin.clone(), claim.clone());
                async move { plugin.prepare(&claim).await }
            });
            node.wait("the record", |node| node.record_path(&claim).exists().then_some(())).await;
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            node.kill().await;
            call.abort();
            node.hardware("set 1 latency_ms=0");
            let plugin = start(&mut node, &["--offer", "partitions"]).await;
            if retried {
                plugin.prepare(&claim).await.unwrap();
                assert_eq!(instances(&node, 1), BTreeSet::from([(14, 2)]), "{function}");
            }
            plugin.unprepare(&claim).await.unwrap();
            assert_eq!(instances(&node, 1), BTreeSet::new(), "{function}");
            assert_nothing_left(&node);
            node.hardware("mig 1 off");
        }
    }
}

/// A GPU that takes its time holds up no other.
#[tokio::test]
async fn a_slow_gpu_delays_no_other() {
    let (node, plugin) = cutting().await;
    let slow = node.allocated("slow", &on(H100, "2g20gb-14-2"));
    node.hardware("record on");
    node.hardware("set 1 latency_ms=60000 function=nvmlDeviceCreateGpuInstanceWithPlacement times=1");
    let slow = tokio::spawn({
        let plugin = plugin.clone();
        async move { plugin.prepare(&slow).await }
    });
    let is_asked = |call: &Call| call.function == "nvmlDeviceCreateGpuInstanceWithPlacement";
    node.wait("the slow call", |node| node.machine().calls().unwrap().iter().any(is_asked).then_some(())).await;
    let quick = node.allocated("quick", &on(A100, "2g10gb-14-2"));
    plugin.prepare(&quick).await.unwrap();
    assert!(!slow.is_finished());
    node.hardware("set 1 latency_ms=0");
    slow.await.unwrap().unwrap();
}

/// Of every product: its partitions, what each takes, and what there is. The tables are NVIDIA's; see `hack/hardware/models`.
#[tokio::test]
async fn the_counters_of_every_product_add_up() {
    let (mut seen, mut tables) = (BTreeMap::new(), BTreeMap::new());
    for profile in ["a100-h100", "mixed", "rtx-pro", "h200", "hgx-b200", "gb200"] {
        let node = Node::new(AGENT, profile);
        let gpus = node.machine().hardware().unwrap().gpus.len();
        for gpu in 0..gpus {
            // What cannot be cut says so.
            let cut = node.machine().run(&["mig", &gpu.to_string(), "on"]).is_ok();
            let _ = cut.then(|| node.machine().run(&["reset", &gpu.to_string()]));
        }
        let output = node.run(&["inspect", "--output", "slices", "--offer", "partitions"]);
        let slices: Value = serde_json::from_str(&output.stdout).unwrap();
        let all = |field: &str| -> Vec<Value> {
            slices["items"]
                .as_array()
                .unwrap()
                .iter()
                .flat_map(|slice| slice["spec"][field].as_array().cloned())
                .flatten()
                .collect()
        };
        for model in node.machine().hardware().unwrap().models.values().filter(|model| model.mig.is_some()) {
            let table = model.mig.iter().flat_map(|mig| &mig.profiles);
            let most = table.map(|profile| (profile.name.clone(), usize::try_from(profile.max).unwrap())).collect();
            tables.insert(model.name.clone(), most);
        }
        for set in all("sharedCounters").iter().filter(|set| !set["name"].as_str().unwrap().starts_with("accelerators"))
        {
            let own = |device: &&Value| device["consumesCounters"][1]["counterSet"] == set["name"];
            let devices = all("devices");
            let partitions: Vec<&Value> = devices.iter().filter(own).collect();
            let product = partitions[0]["attributes"]["productName"]["string"].as_str().unwrap().to_owned();
            let total = numbers(&set["counters"]);
            for (name, most) in most_of_each_profile(&partitions, &total) {
                seen.entry(product.clone()).or_insert_with(BTreeMap::new).insert(name, most);
            }
            let largest = partitions.iter().max_by_key(|device| slices_of(device)).unwrap();
            let rest: Vec<_> = left(&total, &numbers(&largest["consumesCounters"][1]["counters"])).unwrap();
            assert!(
                rest.iter().all(|(name, left)| !name.starts_with("memory-slice") || *left == 0),
                "{product}: {rest:?}"
            );
        }
    }
    assert_eq!(seen, tables, "the counters allow as many of each profile as the driver does");
}

fn numbers(counters: &Value) -> BTreeMap<String, i64> {
    let number = |value: &Value| value["value"].as_str().unwrap().parse().unwrap();
    counters.as_object().unwrap().iter().map(|(name, value)| (name.clone(), number(value))).collect()
}

fn slices_of(device: &Value) -> usize {
    let counters = device["consumesCounters"][1]["counters"].as_object().unwrap();
    counters.keys().filter(|name| name.starts_with("memory-slice")).count()
}

/// What is left of the counters; `None` where one falls below zero.
fn left(have: &BTreeMap<String, i64>, taken: &BTreeMap<String, i64>) -> Option<Vec<(String, i64)>> {
    let rest = have.iter().map(|(name, have)| (name.clone(), have - taken.get(name).copied().unwrap_or(0)));
    let rest: Vec<_> = rest.collect();
    rest.iter().all(|(_, left)| *left >= 0).then_some(rest)
}

/// How many of each profile fit at once, by the counters alone, taken as the scheduler takes them.
fn most_of_each_profile(partitions: &[&Value], total: &BTreeMap<String, i64>) -> BTreeMap<String, usize> {
    let mut most = BTreeMap::new();
    let mut room: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
    for device in partitions {
        let profile = device["attributes"]["profile"]["string"].as_str().unwrap().to_owned();
        let room = room.entry(profile.clone()).or_insert_with(|| total.clone());
        if let Some(rest) = left(room, &numbers(&device["consumesCounters"][1]["counters"])) {
            *room = rest.into_iter().collect();
            *most.entry(profile).or_insert(0) += 1;
        }
    }
    most
}
