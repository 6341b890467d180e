//! Devices that are offered with all others of their fabric domain, on all its nodes: what one of these nodes hands out.

use std::fs;

use serde_json::{Value, json};
use tessera_vocabulary::{DeviceName, DriverName, domain_pool};
use testkit::{Claim, Node, Plugin};

use super::{DRIVER, FLAGS, all_ready, answered, desired, desired_of, following_on, published, reaches, start, want};

/// The GPUs of a tray of `gb200`, and the clique that they lie in with those of other trays.
const TRAY: [&str; 4] = ["gpu-0008-01-00-0", "gpu-0009-01-00-0", "gpu-0018-01-00-0", "gpu-0019-01-00-0"];
const CLIQUE: &str = "c7d3e2f1-5b64-4a8e-9f10-2d6b8a4c7e35.32766";
const CHANNEL: &str = "dev/nvidia-caps-imex-channels/channel0";

/// Pool and device of a domain, as the controller publishes them.
fn published_as(driver: &str, domain: &str) -> (String, String) {
    let (driver, device): (DriverName, _) = (driver.parse().unwrap(), DeviceName::domain(domain));
    (domain_pool(&driver, &device), device.to_string())
}

/// A claim that was given a domain, and that the API server knows.
fn allocated(node: &Node, name: &str, driver: &str, domain: &str) -> Claim {
    let (pool, device) = published_as(driver, domain);
    let result = json!({"request": "all", "driver": driver, "pool": pool, "device": device});
    node.known(Claim::new(name).result(result))
}

/// A tray whose GPUs are all offered with their clique.
async fn tray() -> (Node, Plugin) {
    let (node, plugin) = following_on("gb200", FLAGS).await;
    want(&node, &TRAY.map(|gpu| desired(gpu, json!({"domain": {}}))));
    all_ready(&node).await;
    (node, plugin)
}

/// The device nodes of each CDI device of a claim.
fn device_nodes(node: &Node, claim: &Claim) -> Vec<Vec<String>> {
    let spec = node.spec(claim).unwrap();
    let of_device = |device: &Value| {
        let nodes = device["containerEdits"]["deviceNodes"].as_array().unwrap();
        nodes.iter().map(|node| node["path"].as_str().unwrap().to_owned()).collect()
    };
    spec["devices"].as_array().unwrap().iter().map(of_device).collect()
}

#[tokio::test]
async fn a_domain_is_told_of_and_its_gpus_leave_the_slices() {
    let (node, _) = following_on("gb200", FLAGS).await;
    want(&node, &[]);
    all_ready(&node).await;
    let domains =
        |node: &Node| answered(node).unwrap().into_values().map(|one| one["domain"].clone()).collect::<Vec<_>>();
    assert_eq!(domains(&node), vec![json!({"name": CLIQUE}); 4]);
    assert_eq!(node.devices().len(), 4);

    want(&node, &TRAY.map(|gpu| desired(gpu, json!({"domain": {}}))));
    all_ready(&node).await;
    assert_eq!(node.devices(), Vec::<Value>::new());
    let answers = answered(&node).unwrap();
    assert!(answers.values().all(|answer| answer["layout"] == json!({"domain": {}})), "{answers:?}");
    assert_eq!(domains(&node), vec![json!({"name": CLIQUE}); 4]);
    assert_eq!(answers[TRAY[0]]["attributes"]["tessera.dev/fabricDomain"]["string"], CLIQUE);

    // While the fabric is made anew, nobody knows what it will be.
    let forming = |state| {
        node.machine().update(|hardware| {
            hardware.gpus.iter_mut().filter_map(|gpu| gpu.fabric.as_mut()).for_each(|fabric| fabric.state = state);
        })
    };
    forming(simulated_hardware::FabricState::InProgress).unwrap();
    let failed = reaches(&node, TRAY[0], "Failed").await;
    assert_eq!(failed["domain"]["name"], CLIQUE);
    assert!(failed["message"].as_str().unwrap().contains("is no member of fabric domain"), "{failed}");
    forming(simulated_hardware::FabricState::Completed).unwrap();
    all_ready(&node).await;
}

#[tokio::test]
async fn a_claim_gets_all_that_the_node_has_of_its_domain_and_is_waited_for() {
    let (mut node, plugin) = tray().await;
    let rack = allocated(&node, "rack", DRIVER, CLIQUE);
    let answer = plugin.prepare(&rack).await.unwrap();
    let (pool, device) = published_as(DRIVER, CLIQUE);
    assert_eq!((answer.len(), &answer[0].pool_name, &answer[0].device_name), (1, &pool, &device));
    assert_eq!((answer[0].request_names.clone(), answer[0].cdi_device_ids.len()), (vec!["all".to_owned()], 4));
    for (number, nodes) in device_nodes(&node, &rack).iter().enumerate() {
        assert!(nodes.contains(&format!("/dev/nvidia{number}")) && nodes.contains(&format!("/{CHANNEL}")), "{nodes:?}");
    }
    assert_eq!(plugin.prepare(&rack).await.unwrap(), answer);

    // Nobody else gets any of it.
    let second = plugin.prepare(&allocated(&node, "second", DRIVER, CLIQUE)).await.unwrap_err();
    assert!(second.contains(&format!("device {device} is still held by claim team/rack")), "{second}");
    let alone = plugin.prepare(&node.allocated("alone", TRAY[0])).await.unwrap_err();
    assert!(alone.contains("policy research makes the accelerator domain"), "{alone}");
    let elsewhere = plugin.prepare(&allocated(&node, "elsewhere", DRIVER, "another.1")).await.unwrap_err();
    assert!(elsewhere.contains("is not on this node any more"), "{elsewhere}");

    // The kubelet is told how this node's part is.
    let health = |node: &Node| node.kubelet().health().get(&(DRIVER.to_owned(), pool.clone(), device.clone())).cloned();
    let is = |node: &Node, wanted: &str| health(node).filter(|health| health.health == wanted).map(|_| ());
    node.wait("a healthy domain", |node| is(node, "HEALTHY")).await;
    node.hardware("set 2 lost=true");
    node.wait("an unhealthy domain", |node| is(node, "UNHEALTHY")).await;
    let lost = plugin.prepare(&rack).await.unwrap_err();
    assert!(lost.contains(&format!("device {} is lost", TRAY[2])), "{lost}");
    node.hardware("set 2 lost=false");
    node.wait("a healthy domain", |node| is(node, "HEALTHY")).await;

    // The next agent knows of it, and mends what is missing.
    let spec = node.spec(&rack);
    node.kill().await;
    fs::remove_file(node.spec_path(&rack)).unwrap();
    let plugin = start(&mut node, FLAGS).await;
    node.wait("the spec", |node| (node.spec(&rack) == spec).then_some(())).await;
    assert_eq!(plugin.prepare(&rack).await.unwrap(), answer);
    assert_eq!(node.devices(), Vec::<Value>::new(), "it is none of the node's");

    // Withdrawn while the claim has it: waited for, and nobody new gets it once it is free.
    want(&node, &TRAY.map(|gpu| desired(gpu, json!({"whole": {}}))));
    for gpu in TRAY {
        assert_eq!(reaches(&node, gpu, "Draining").await["message"], "waiting for claim team/rack");
    }
    assert_eq!(plugin.prepare(&rack).await.unwrap(), answer, "its pods go on");
    plugin.unprepare(&rack).await.unwrap();
    all_ready(&node).await;
    assert_eq!(published(&node, "gpu").into_keys().collect::<Vec<_>>(), TRAY);
    let late = plugin.prepare(&rack).await.unwrap_err();
    assert!(late.contains("cannot be had whole: gpu-0008-01-00-0 is offered as whole"), "{late}");
    assert_eq!(
        (node.specs(), node.records_of(DRIVER).iter().filter(|name| name.ends_with(".record")).count()),
        (vec![], 0)
    );
}

#[tokio::test]
async fn a_node_without_a_channel_hands_out_its_gpus_and_by_themselves_they_need_none() {
    let (node, plugin) = tray().await;
    fs::remove_file(node.root().join(CHANNEL)).unwrap();
    let rack = allocated(&node, "rack", DRIVER, CLIQUE);
    plugin.prepare(&rack).await.unwrap();
    let has_channel = |claim| device_nodes(&node, claim).concat().contains(&format!("/{CHANNEL}"));
    assert!(!has_channel(&rack));
    plugin.unprepare(&rack).await.unwrap();
    want(&node, &[]);
    node.wait("four GPUs", |node| (node.devices().len() == 4).then_some(())).await;
    fs::write(node.root().join(CHANNEL), "").unwrap();
    let alone = node.allocated("alone", TRAY[1]);
    plugin.prepare(&alone).await.unwrap();
    assert!(!has_channel(&alone));
}

/// A slice of two hosts with eight chips each.
#[tokio::test]
async fn a_slice_of_several_hosts_is_a_domain() {
    const TPU: &str = "tpu.google.com";
    let told =
        ["--tpu-slice", "pod-7", "--tpu-topology", "4x4", "--tpu-worker-id", "1", "--tpu-worker-hostnames", "a,b"];
    let (node, plugin) = following_on("tpu-v5e", &[&told, FLAGS].concat()).await;
    let chips: Vec<_> = node.devices_of(TPU).iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(chips.len(), 8);
    let all = |layout: &Value| chips.iter().map(|chip| desired_of(TPU, chip, layout.clone())).collect::<Vec<_>>();
    want(&node, &all(&json!({"domain": {}})));
    all_ready(&node).await;
    assert_eq!(answered(&node).unwrap()[&chips[0]]["domain"], json!({"name": "pod-7", "nodes": 2}));
    assert_eq!(node.devices_of(TPU), Vec::<Value>::new());

    let pod = allocated(&node, "pod", TPU, "pod-7");
    let answer = plugin.prepare(&pod).await.unwrap();
    assert_eq!((answer.len(), answer[0].cdi_device_ids.len()), (1, 8));
    let spec = fs::read_to_string(node.cdi_dir().join(&node.specs()[0])).unwrap();
    let spec: Value = serde_json::from_str(&spec).unwrap();
    let told: Vec<_> =
        spec["devices"][0]["containerEdits"]["env"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for line in ["TPU_TOPOLOGY=4x4", "TPU_HOST_BOUNDS=2,1,1", "TPU_WORKER_ID=1", "TPU_WORKER_HOSTNAMES=a,b"] {
        assert!(told.contains(&line), "{line} is not among {told:?}");
    }
    plugin.unprepare(&pod).await.unwrap();
    want(&node, &all(&json!({"whole": {}})));
    all_ready(&node).await;
    assert_eq!(node.devices_of(TPU).len(), 8);
}
