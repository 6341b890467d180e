//! What the agent makes of every simulated machine with everything offered: what it publishes, and the CDI specs of a
//! whole, a partition, a passthrough and a group. To be read against NVIDIA's tables; see `hack/hardware/models`.

mod brief;
mod summary;

use std::collections::BTreeSet;

use serde_json::Value;
use simulated_hardware::{Hardware, Profile};
use simulated_sysfs::{Mounted, Setup};
use testkit::kubelet::Answer;
use testkit::{Claim, Node, Plugin, are_whole};

use crate::{AGENT, assert_nothing_left};
use brief::brief;
use summary::summary;

const EVERYTHING: &[&str] = &["--offer", "partitions,passthrough,groups"];

#[tokio::test]
async fn what_is_published_and_handed_out_of_every_product() {
    let of_gpus = |profile: Profile| !profile.gpus.is_empty() && profile.tpus.is_empty();
    for name in Profile::names().filter(|name| Profile::named(name).is_ok_and(of_gpus)) {
        let mut node = Node::new(AGENT, name);
        node.start_kubelet(Answer::Confirm);
        let _kernel = Mounted::boot(&node.root(), Setup::default()).unwrap();
        node.start_agent(EVERYTHING);
        node.wait("the agent", |node| node.ready_after(0)).await;
        let plugin = node.connect().await;

        let mut text = summary(&node.api.slices());
        text += &specs(&node, &plugin, &mut BTreeSet::new()).await;
        for (index, address) in cut_by_a_reset_alone(&node.machine().hardware().unwrap(), &node.devices()) {
            node.hardware(&format!("mig {index} on"));
            node.hardware(&format!("reset {index}"));
            let of_it = |device: &Value| device["name"].as_str().unwrap().starts_with(&format!("gpu-{address}-mig-"));
            let cut = |node: &Node| node.devices().iter().any(of_it) && are_whole(&node.api.slices());
            let mut slices = node.wait("its partitions", |node| cut(node).then(|| node.api.slices())).await;
            text += &format!("\n=== once an admin has switched the MIG mode of {address} on\n\n");
            for slice in &mut slices {
                slice["spec"]["devices"].as_array_mut().into_iter().for_each(|devices| devices.retain(of_it));
                let own = |set: &Value| set["name"] == format!("gpu-{address}");
                slice["spec"]["sharedCounters"].as_array_mut().into_iter().for_each(|sets| sets.retain(own));
            }
            text += &summary(&slices);
            let mut known = ["gpu", "vfio", "group"].map(str::to_owned).into();
            text += &specs(&node, &plugin, &mut known).await;
        }
        insta::assert_snapshot!(name, text);
    }
}

/// The first GPU of each model that can be cut, but whose partitions are not offered as it is: its index and address, as
/// names of devices spell it.
fn cut_by_a_reset_alone(hardware: &Hardware, devices: &[Value]) -> Vec<(usize, String)> {
    let mut models = BTreeSet::new();
    let mut found = Vec::new();
    for (index, gpu) in hardware.gpus.iter().enumerate() {
        let address = gpu.pci.to_string().replace([':', '.'], "-");
        let is_part = |device: &Value| device["name"].as_str().unwrap().starts_with(&format!("gpu-{address}-mig-"));
        let can_be_cut = hardware.model(gpu).is_some_and(|model| model.mig.is_some());
        if can_be_cut && !devices.iter().any(is_part) && models.insert(&gpu.model) {
            found.push((index, address));
        }
    }
    found
}

/// The CDI spec of a claim for the first device of each type of each product.
async fn specs(node: &Node, plugin: &Plugin, known: &mut BTreeSet<String>) -> String {
    let mut text = String::new();
    for device in node.devices() {
        let attribute = |name: &str| device["attributes"][name]["string"].as_str().unwrap_or_default().to_owned();
        let kind = attribute("type");
        let of_product = match kind.as_str() {
            "mig" => format!("{kind} of {}", attribute("productName")),
            _ => kind.clone(),
        };
        if known.contains(&kind) || !known.insert(of_product) {
            continue;
        }
        let name = device["name"].as_str().unwrap();
        let claim: Claim = node.allocated(&kind, name);
        plugin.prepare(&claim).await.unwrap();
        let spec = node.anonymous_json(&node.spec(&claim).unwrap());
        text += &format!("\n--- CDI spec of a claim for {name}\n{}\n", brief(&spec));
        plugin.unprepare(&claim).await.unwrap();
        assert_nothing_left(node);
    }
    text
}
