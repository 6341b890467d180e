//! Hardware that comes and goes, as the scheduler and the claims see it.

use std::fs::File;
use std::time::Duration;

use serde_json::Value;
use simulated_hardware::Profile;
use testkit::kubelet::Answer;
use testkit::{GPUS, Node};

use crate::{AGENT, node};

/// Held alone by a test that has the kernel tell of a device, and together by those that an agent's look of its own would
/// disturb, also of another run: every agent on the machine hears the kernel.
pub(crate) fn kernel_tells() -> File {
    File::create(std::env::temp_dir().join("tessera-uevents.lock")).unwrap()
}

fn find<'d>(devices: &'d [Value], name: &str) -> Option<&'d Value> {
    devices.iter().find(|device| device["name"] == name)
}

fn taint(devices: &[Value], name: &str) -> Option<String> {
    find(devices, name)?["taints"][0]["key"].as_str().map(str::to_owned)
}

/// A node pool without GPUs has nothing of their driver, and needs no restart when it gets some.
#[tokio::test]
async fn a_node_without_hardware_waits_for_it() {
    let mut node = Node::without_driver(AGENT);
    node.start_kubelet(Answer::Confirm);
    node.start_agent(&[]);
    let (_, body) = node.wait("ready", |node| node.http("/readyz").filter(|(status, _)| *status == 200)).await;
    assert!(body.contains("gpu.nvidia.com: not served, none of its hardware is on this node\n"), "{body}");
    // Long enough for three looks.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(node.api.slices().is_empty() && node.kubelet().registrations().is_empty());
    assert!(!node.kubelet_dir().join("plugins/gpu.nvidia.com").exists());
    assert!(!node.http("/metrics").unwrap().1.contains("gpu.nvidia.com"));

    node.install_driver(&Profile::named("dgx-h100").unwrap());
    node.wait_for_devices("eight devices", |devices| devices.len() == 8).await;
    let claim = node.allocated("training", GPUS[0]);
    node.kubelet().plugin().await.prepare(&claim).await.unwrap();
    node.wait("ready", |node| node.http("/readyz").filter(|(_, body)| body.contains("published: true"))).await;
}

/// Once served it stays so, with an empty pool: a driver that is reloaded is no reason to leave.
#[tokio::test]
async fn hardware_that_goes_leaves_an_empty_pool() {
    let (node, _plugin) = node().await;
    (0..8).for_each(|gpu| node.hardware(&format!("set {gpu} present=false")));
    node.wait_for_devices("no device", <[Value]>::is_empty).await;
    assert_eq!(node.api.slices()[0]["spec"]["pool"]["resourceSliceCount"], 1);
    node.hardware("set 0 present=true");
    node.wait_for_devices("one device", |devices| devices.len() == 1).await;
}

/// Has the kernel tell once more of a PCI device of the machine on which the tests run, as udev does after a boot. That
/// changes nothing of it; says no where it is not allowed.
fn have_the_kernel_tell() -> bool {
    let devices = std::fs::read_dir("/sys/bus/pci/devices").into_iter().flatten().flatten();
    devices.take(1).any(|device| std::fs::write(device.path().join("uevent"), "change").is_ok())
}

/// So rarely does an agent look by itself that a test does not see it.
const SELDOM: [&str; 2] = ["--rescan", "3600"];

/// Needs root, and a machine with a PCI bus.
#[tokio::test]
async fn what_the_kernel_tells_of_is_looked_at_at_once() {
    let telling = kernel_tells();
    telling.lock().unwrap();
    let mut node = Node::new(AGENT, "dgx-h100");
    node.start_kubelet(Answer::Confirm);
    node.start_agent(&SELDOM);
    node.wait("ready", |node| node.ready_after(0)).await;
    let plugin = node.connect().await;
    plugin.prepare(&node.allocated("training", GPUS[3])).await.unwrap();
    node.hardware("set 3 present=false");
    node.hardware("set 4 present=false");
    if !have_the_kernel_tell() {
        return eprintln!("skipped: the kernel cannot be made to tell of a device here");
    }
    let devices = node.wait_for_devices("seven devices", |devices| devices.len() == 7).await;
    assert_eq!((find(&devices, GPUS[4]), taint(&devices, GPUS[3]).as_deref()), (None, Some("tessera.dev/lost")));
    node.hardware("set 3 present=true");
    assert!(have_the_kernel_tell());
    node.wait_for_devices("no taint", |devices| taint(devices, GPUS[3]).is_none()).await;
}

#[tokio::test]
async fn hardware_that_the_kernel_tells_of_is_served_at_once() {
    let telling = kernel_tells();
    telling.lock().unwrap();
    let mut node = Node::without_driver(AGENT);
    node.start_kubelet(Answer::Confirm);
    node.start_agent(&SELDOM);
    node.wait("standing by", |node| node.http("/readyz").filter(|(status, _)| *status == 200)).await;
    node.install_driver(&Profile::named("dgx-h100").unwrap());
    if !have_the_kernel_tell() {
        return eprintln!("skipped: the kernel cannot be made to tell of a device here");
    }
    node.wait_for_devices("eight devices", |devices| devices.len() == 8).await;
}

#[tokio::test]
async fn a_free_gpu_that_is_pulled_out_is_gone() {
    let (node, plugin) = node().await;
    node.hardware("set 3 present=false");
    let devices = node.wait_for_devices("seven devices", |devices| devices.len() == 7).await;
    assert_eq!(find(&devices, GPUS[3]), None);
    let claim = node.allocated("late", GPUS[3]);
    insta::assert_snapshot!(plugin.prepare(&claim).await.unwrap_err());
    node.hardware("set 3 present=true");
    node.wait_for_devices("eight devices", |devices| devices.len() == 8).await;
    plugin.prepare(&claim).await.unwrap();
}

#[tokio::test]
async fn a_held_gpu_that_is_pulled_out_is_tainted() {
    let (node, plugin) = node().await;
    let claim = node.allocated("training", GPUS[3]);
    let before = plugin.prepare(&claim).await.unwrap();
    node.hardware("set 3 present=false");
    let lost = |devices: &[Value]| taint(devices, GPUS[3]).as_deref() == Some("tessera.dev/lost");
    let devices = node.wait_for_devices("the taint", lost).await;
    assert_eq!(devices.len(), 8);
    insta::assert_snapshot!(plugin.prepare(&claim).await.unwrap_err());
    node.hardware("set 3 present=true");
    node.wait_for_devices("no taint", |devices| taint(devices, GPUS[3]).is_none()).await;
    assert_eq!(plugin.prepare(&claim).await.unwrap(), before);
}

#[tokio::test]
async fn a_held_gpu_that_is_lost_while_no_agent_looks_stays_published() {
    let (mut node, plugin) = node().await;
    let claim = node.allocated("training", GPUS[3]);
    plugin.prepare(&claim).await.unwrap();
    node.kill().await;
    node.hardware("set 3 present=false");
    // Also when the slices were wiped meanwhile: the ledger knows how it was published.
    node.api.wipe_slices(Node::NAME);
    node.start().await;
    let lost = |devices: &[Value]| taint(devices, GPUS[3]).as_deref() == Some("tessera.dev/lost");
    let devices = node.wait_for_devices("the taint", lost).await;
    assert_eq!(devices.len(), 8);
    node.kubelet().plugin().await.unprepare(&claim).await.unwrap();
    node.wait_for_devices("seven devices", |devices| devices.len() == 7).await;
}

#[tokio::test]
async fn a_gpu_that_fell_off_the_bus_is_tainted_and_others_are_not() {
    let (node, plugin) = node().await;
    node.hardware("set 5 lost=true");
    let devices = node.wait_for_devices("the taint", |devices| taint(devices, GPUS[5]).is_some()).await;
    assert_eq!(devices.iter().filter(|device| !device["taints"].is_null()).count(), 1);
    insta::assert_snapshot!(plugin.prepare(&node.allocated("late", GPUS[5])).await.unwrap_err());
    plugin.prepare(&node.allocated("other", GPUS[4])).await.unwrap();
    let time = |devices: &[Value]| find(devices, GPUS[5]).unwrap()["taints"][0]["timeAdded"].clone();
    let since = time(&devices);

    // Another change in the same slice is no news for the taint.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    node.hardware("set 6 lost=true");
    let devices = node.wait_for_devices("the second taint", |devices| taint(devices, GPUS[6]).is_some()).await;
    assert_eq!(time(&devices), since);
    node.hardware("set 5 lost=false");
    node.wait_for_devices("no taint", |devices| taint(devices, GPUS[5]).is_none()).await;
}

#[tokio::test]
async fn a_claim_whose_gpu_is_lost_can_be_undone() {
    let (node, plugin) = node().await;
    let claim = node.allocated("training", GPUS[3]);
    plugin.prepare(&claim).await.unwrap();
    node.hardware("set 3 present=false");
    node.wait_for_devices("the taint", |devices| taint(devices, GPUS[3]).is_some()).await;
    plugin.unprepare(&claim).await.unwrap();
    crate::assert_nothing_left(&node);
    node.wait_for_devices("seven devices", |devices| devices.len() == 7).await;
}

#[tokio::test]
async fn where_the_server_drops_taints_lost_devices_are_withheld() {
    let (node, plugin) = node().await;
    node.api.drop_device_field("taints");
    plugin.prepare(&node.allocated("training", GPUS[2])).await.unwrap();
    node.hardware("set 5 lost=true");
    node.hardware("set 2 lost=true");
    let withheld = |devices: &[Value]| find(devices, GPUS[5]).is_none();
    let devices = node.wait_for_devices("the free one is withheld", withheld).await;
    assert!(find(&devices, GPUS[2]).is_some(), "a claim holds it");
    node.hardware("set 5 lost=false");
    node.wait_for_devices("it is back", |devices| find(devices, GPUS[5]).is_some()).await;
}

#[tokio::test]
async fn a_driver_that_is_replaced_loses_nothing() {
    let (node, plugin) = node().await;
    let claim = node.allocated("training", GPUS[0]);
    plugin.prepare(&claim).await.unwrap();
    node.hardware("set fail=nvmlDeviceGetCount_v2:DRIVER_NOT_LOADED");
    let all = |devices: &[Value]| devices.iter().all(|device| !device["taints"].is_null());
    let devices = node.wait_for_devices("all taints", all).await;
    assert_eq!(devices.len(), 8);
    node.hardware("set fail=none driver.version=570.124.06");
    let upgraded = |devices: &[Value]| {
        devices
            .iter()
            .all(|device| device["taints"].is_null() && device["attributes"]["driverVersion"]["version"] == "570.124.6")
    };
    node.wait_for_devices("the new version", upgraded).await;
    plugin.prepare(&claim).await.unwrap();
}

#[tokio::test]
async fn a_gpu_without_its_device_node_is_refused() {
    let (node, plugin) = node().await;
    std::fs::remove_file(node.root().join("dev/nvidia1")).unwrap();
    let refusal = plugin.prepare(&node.allocated("training", GPUS[1])).await.unwrap_err();
    insta::assert_snapshot!(node.anonymous(&refusal));
    crate::assert_nothing_left(&node);
}
