//! Resources besides whole GPUs: MIG devices, and TPUs.

use testkit::kubelet::DeviceManager;
use testkit::{Claim, Node};

use super::{GPU, healthy, lent, node_of};

const SMALL: &str = "nvidia.com/mig-1g.5gb";
const LARGE: &str = "nvidia.com/mig-3g.20gb";
const TPU: &str = "google.com/tpu";

/// The machine with an A100 and an H100, of which an admin has cut the A100 into a large and two small ones.
const CUT: [&str; 5] =
    ["mig 0 on", "reset 0", "mig 0 create 3g.20gb@4", "mig 0 create 1g.5gb@0", "mig 0 create 1g.5gb@1"];

async fn cut(flags: &[&str]) -> (Node, DeviceManager) {
    node_of("a100-h100", &CUT, &[&["--api", "both"], flags].concat()).await
}

/// The device nodes of the CDI devices that a container is told of.
fn nodes(node: &Node, driver: &str, names: &[String]) -> Vec<String> {
    let path = node.cdi_dir().join(format!("tessera.{driver}-device_units.json"));
    let spec: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let all = spec["devices"].as_array().unwrap().iter();
    let named = all.filter(|device| names.iter().any(|name| name.rsplit('=').next() == device["name"].as_str()));
    let nodes = named.flat_map(|device| device["containerEdits"]["deviceNodes"].as_array().into_iter().flatten());
    nodes.map(|node| node["path"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn partitions_of_several_shapes_are_resources_of_their_own() {
    let (node, manager) = cut(&["--mig-strategy", "mixed"]).await;
    healthy(&node, &manager, SMALL, 2).await;
    healthy(&node, &manager, LARGE, 1).await;
    healthy(&node, &manager, GPU, 1).await;
    let numa = |device: &tessera_kubelet_api::device_plugin_v1beta1::Device| {
        device.topology.as_ref().map(|topology| topology.nodes.iter().map(|node| node.id).collect::<Vec<_>>())
    };
    assert!(manager.devices(SMALL).iter().all(|device| numa(device) == Some(vec![0])), "{:?}", manager.devices(SMALL));
    assert!(manager.devices(SMALL).iter().all(|device| device.id.starts_with("MIG-")));

    let allocated = manager.admit(SMALL, 1).await.unwrap();
    let names: Vec<_> = allocated.answer.cdi_devices.iter().map(|device| device.name.clone()).collect();
    let nodes = nodes(&node, "gpu.nvidia.com", &names);
    assert!(nodes.iter().any(|path| path == "/dev/nvidia0"), "{nodes:?}");
    let of_instances = nodes.iter().filter(|path| path.contains("nvidia-caps/nvidia-cap")).count();
    assert_eq!(of_instances, 2, "of its GPU instance and its compute instance: {nodes:?}");
    node.wait("its taint and no other", |node| (lent(node).len() == 1).then_some(())).await;

    // The other small one is a claim's.
    let free = |device: &serde_json::Value| {
        device["attributes"]["profile"]["string"] == "1g.5gb" && device["taints"].is_null()
    };
    let device = node.devices().into_iter().find(free).unwrap();
    node.connect().await.prepare(&node.allocated("training", device["name"].as_str().unwrap())).await.unwrap();
    healthy(&node, &manager, SMALL, 1).await;
    assert!(manager.admit(SMALL, 1).await.is_err());
    manager.admit(LARGE, 1).await.unwrap();
}

#[tokio::test]
async fn partitions_of_one_shape_are_called_as_whole_gpus_are() {
    let (node, manager) = cut(&["--mig-strategy", "single"]).await;
    let problem = "is not cut into partitions and others are";
    node.wait("what is in the way", |node| node.log().contains(problem).then_some(())).await;
    assert!(manager.registrations().is_empty());

    let (node, manager) = node_of(
        "mixed",
        &["mig 0 on", "reset 0", "mig 0 create 1g.6gb@0", "mig 0 create 1g.6gb@1"],
        &["--api", "device-plugin", "--mig-strategy", "single", "--device-api", "0000:5e:00.0=dra,0000:af:00.0=dra"],
    )
    .await;
    let ids = healthy(&node, &manager, GPU, 2).await;
    assert!(ids.iter().all(|id| id.starts_with("MIG-")), "{ids:?}");
    assert_eq!(node.devices().len(), 2, "the others are for claims");
}

#[tokio::test]
async fn partitions_are_shared_too() {
    let config = "{version: v1, flags: {migStrategy: mixed}, sharing: {timeSlicing: {resources: \
                  [{name: nvidia.com/mig-1g.5gb, replicas: 3}]}}}";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), config).unwrap();
    let (node, manager) = cut(&["--config-file", file.path().to_str().unwrap()]).await;
    healthy(&node, &manager, SMALL, 6).await;
    healthy(&node, &manager, LARGE, 1).await;
    for _ in 0..6 {
        manager.admit(SMALL, 1).await.unwrap();
    }
    node.wait("two taints", |node| (lent(node).len() == 2).then_some(())).await;
}

#[tokio::test]
async fn chips_are_given_in_shapes_that_libtpu_can_use() {
    let (node, manager) = node_of("nvidia-tpu", &[], &["--api", "both"]).await;
    healthy(&node, &manager, TPU, 4).await;
    healthy(&node, &manager, GPU, 2).await;
    let allocated = manager.admit(TPU, 2).await.unwrap();
    let told = |name: &str| allocated.answer.envs.get(name).map(String::as_str);
    assert_eq!(told("TPU_CHIPS_PER_PROCESS_BOUNDS"), Some("1,2,1"), "{:?}", allocated.answer.envs);
    assert_eq!(told("TPU_VISIBLE_CHIPS").map(|chips| chips.split(',').count()), Some(2));
    let names: Vec<_> = allocated.answer.cdi_devices.iter().map(|device| device.name.clone()).collect();
    let nodes = nodes(&node, "tpu.google.com", &names);
    assert_eq!(nodes.iter().filter(|path| path.as_str() != "/dev/vfio/vfio").count(), 2, "{nodes:?}");

    // What pods have is no claim's.
    let tainted = |node: &Node| {
        let devices = node.devices_of("tpu.google.com").into_iter();
        let lent = devices.filter(|device| device["taints"].to_string().contains("tessera.dev/lent"));
        lent.map(|device| device["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let lent = node.wait("taints", |node| Some(tainted(node)).filter(|lent| lent.len() == 2)).await;
    let claim = node.known(Claim::new("training").device_of("tpu.google.com", "tpu", &lent[0]));
    let refused = node.plugin_of("tpu.google.com").await.prepare(&claim).await.unwrap_err();
    assert!(refused.contains("is used by pods that asked for google.com/tpu"), "{refused}");
}
