//! Whole GPUs for user space, by VFIO, under a simulated kernel that binds and unbinds.

use std::fs;

use rustix::io::Errno;
use simulated_sysfs::{Mounted, Operation, Rule, Setup};
use testkit::kubelet::Answer;
use testkit::{GPUS, Node, Plugin};

use crate::{AGENT, assert_nothing_left, prepare_once_seen};

const FIRST: &str = "vfio-0000-1b-00-0";
const ADDRESS: &str = "0000:1b:00.0";
const OFFER: &[&str] = &["--offer", "passthrough"];

/// The kernel is dropped first: it gives the rendered tree back.
struct Passing {
    kernel: Mounted,
    node: Node,
}

impl Passing {
    async fn new() -> (Self, Plugin) {
        let mut node = Node::new(AGENT, "dgx-h100");
        node.start_kubelet(Answer::Confirm);
        let kernel = Mounted::boot(&node.root(), Setup::default()).unwrap();
        let mut passing = Self { kernel, node };
        let plugin = passing.start().await;
        (passing, plugin)
    }

    async fn start(&mut self) -> Plugin {
        let known = self.node.kubelet().registrations().len();
        self.node.start_agent(OFFER);
        self.node.wait("the agent", |node| node.ready_after(known)).await;
        self.node.connect().await
    }

    /// The driver that has the first GPU.
    fn driver(&self) -> Option<String> {
        let link = fs::read_link(self.node.root().join(format!("sys/bus/pci/devices/{ADDRESS}/driver"))).ok()?;
        Some(link.file_name()?.to_string_lossy().into_owned())
    }

    /// What is published of the first GPU as user space gets it.
    fn description(&self) -> [serde_json::Value; 2] {
        let devices = self.node.devices();
        let device = devices.iter().find(|device| device["name"] == FIRST).unwrap();
        ["attributes", "capacity"].map(|what| device[what].clone())
    }

    fn names(&self) -> Vec<String> {
        self.node.devices().iter().map(|device| device["name"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test]
async fn a_gpu_goes_to_user_space_and_comes_back() {
    let (passing, plugin) = Passing::new().await;
    let node = &passing.node;
    assert_eq!(passing.names().len(), 16, "each as a whole and for user space");
    let slices = node.api.slices();
    let claim = node.allocated("vm", FIRST);
    let answer = plugin.prepare(&claim).await.unwrap();
    assert_eq!(passing.driver().as_deref(), Some("vfio-pci"));
    assert_eq!(plugin.prepare(&claim).await.unwrap(), answer);
    let whole = node.allocated("whole", GPUS[0]);
    assert!(plugin.prepare(&whole).await.unwrap_err().contains("is still held by claim team/vm"));
    let other = node.allocated("other", GPUS[1]);
    plugin.prepare(&other).await.unwrap();
    plugin.unprepare(&other).await.unwrap();

    plugin.unprepare(&claim).await.unwrap();
    assert_eq!(passing.driver().as_deref(), Some("nvidia"));
    assert_nothing_left(node);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(node.api.slices(), slices, "nothing is written for what comes and goes with claims");
    node.wait("the GPU with its driver", |node| node.machine().hardware().ok().map(|_| ())).await;
    plugin.prepare(&whole).await.unwrap();
}

#[tokio::test]
async fn an_agent_that_died_leaves_it_to_the_next() {
    let (mut passing, plugin) = Passing::new().await;
    let claim = passing.node.allocated("vm", FIRST);
    let answer = plugin.prepare(&claim).await.unwrap();
    let published = passing.description();
    passing.node.kill().await;
    let plugin = passing.start().await;
    assert_eq!(plugin.prepare(&claim).await.unwrap(), answer);
    assert_eq!(passing.driver().as_deref(), Some("vfio-pci"));
    assert_eq!(passing.description(), published, "its driver cannot be asked any more");
    plugin.unprepare(&claim).await.unwrap();
    assert_eq!(passing.driver().as_deref(), Some("nvidia"));
    assert_nothing_left(&passing.node);

    // Killed while the driver takes its time to let go.
    let latency = std::time::Duration::from_secs(3);
    passing.kernel.add_rule(Rule { latency, ..Rule::new(Operation::Remove) });
    let call = tokio::spawn({
        let claim = claim.clone();
        async move { plugin.prepare(&claim).await }
    });
    passing.node.wait("the record", |node| node.record_path(&claim).exists().then_some(())).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    passing.node.kill().await;
    call.abort();
    passing.kernel.clear_rules();
    let plugin = passing.start().await;
    plugin.unprepare(&claim).await.unwrap();
    assert_eq!(passing.driver().as_deref(), Some("nvidia"));
    assert_nothing_left(&passing.node);
    // This agent started while nobody had the GPU, and has to see it first.
    let ready = |device: &serde_json::Value| device["name"] == FIRST && device["taints"].is_null();
    passing.node.wait_for_devices("the GPU", |devices| devices.iter().any(ready)).await;
    prepare_once_seen(&plugin, &claim).await;
    assert_eq!(passing.driver().as_deref(), Some("vfio-pci"));
}

/// VFIO does not take it at once, and all the same it is known whose it was.
#[tokio::test]
async fn a_gpu_that_takes_two_tries_comes_back_to_its_driver() {
    let (passing, plugin) = Passing::new().await;
    let claim = passing.node.allocated("vm", FIRST);
    for operation in [Operation::Override, Operation::Unbind, Operation::DriversProbe, Operation::Probe] {
        passing.kernel.add_rule(Rule { error: Some(Errno::IO), times: Some(1), ..Rule::new(operation) });
        plugin.prepare(&claim).await.unwrap();
        assert_eq!(passing.driver().as_deref(), Some("vfio-pci"), "{operation:?}");
        plugin.unprepare(&claim).await.unwrap();
        assert_eq!(passing.driver().as_deref(), Some("nvidia"), "{operation:?}");
        assert_nothing_left(&passing.node);
        passing.kernel.clear_rules();
        passing.node.wait_for_devices("the GPU", |devices| devices.iter().all(|one| one["taints"].is_null())).await;
    }
}

#[tokio::test]
async fn what_was_bound_by_hand_stays_bound() {
    let mut node = Node::new(AGENT, "dgx-h100");
    node.start_kubelet(Answer::Confirm);
    let kernel = Mounted::boot(&node.root(), Setup::default()).unwrap();
    let device = node.root().join(format!("sys/bus/pci/devices/{ADDRESS}"));
    fs::write(device.join("driver_override"), "vfio-pci").unwrap();
    fs::write(device.join("driver/unbind"), ADDRESS).unwrap();
    fs::write(node.root().join("sys/bus/pci/drivers_probe"), ADDRESS).unwrap();
    let mut passing = Passing { kernel, node };
    let plugin = passing.start().await;
    assert_eq!(passing.names().len(), 15, "not as a whole");
    assert!(passing.names().contains(&FIRST.to_owned()));
    let claim = passing.node.allocated("vm", FIRST);
    plugin.prepare(&claim).await.unwrap();
    plugin.unprepare(&claim).await.unwrap();
    assert_eq!(passing.driver().as_deref(), Some("vfio-pci"));
    assert_nothing_left(&passing.node);
}
