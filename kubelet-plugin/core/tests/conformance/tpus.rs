//! What of every simulated host with TPUs is published, and what containers of claims are told. Short enough to read: each
//! device with what it is and takes, one of each type in full, and the specs of one chip, of each shape, and of all chips
//! one by one, as claims that were written for Google's own driver have them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use k8s_openapi::api::resource::v1::{Counter, Device};
use serde_json::{Value, json};
use tessera_core::{Inventory, Ledger};
use tessera_vocabulary::attributes::google;

use crate::node::{EVERYTHING, Node, attribute, type_of};
use crate::subjects::{Subject, Tpus};

#[test]
fn what_is_published_and_handed_out_of_every_host() {
    for machine in Tpus.machines() {
        let node = Node::new(&Tpus, machine);
        let inventory = node.inventory(EVERYTHING).unwrap();
        insta::assert_snapshot!(machine, published(&node, &inventory) + &handed_out(&node, &inventory));
    }
}

fn published(node: &Node<'_>, inventory: &Inventory) -> String {
    let published = node.publish(inventory, &Ledger::default());
    let mut text = "--- counters\n".to_owned();
    for set in published.sets() {
        writeln!(text, "{}: {}", set.name, counters(&set.counters)).unwrap();
    }
    text += "\n--- devices, in their order\n";
    for device in published.devices() {
        let takes = device.consumes_counters.iter().flatten().map(|taken| counters(&taken.counters));
        let shape = attribute(device, google::SHAPE).unwrap();
        writeln!(text, "{}: {} {shape}; takes {}", device.name, type_of(device), takes.collect::<String>()).unwrap();
    }
    text += "\n--- one of each type in full\n";
    let mut types = BTreeSet::new();
    for device in published.devices().filter(|device| types.insert(type_of(device).to_owned())) {
        text += &full(device);
    }
    text
}

fn handed_out(node: &Node<'_>, inventory: &Inventory) -> String {
    let published = node.publish(inventory, &Ledger::default());
    let mut text = String::new();
    let mut shapes = BTreeSet::new();
    for device in published.devices().filter(|device| shapes.insert(attribute(device, google::SHAPE))) {
        text += &spec(node, inventory, std::slice::from_ref(&device.name));
    }
    let chips: Vec<_> = published.devices().filter(|device| type_of(device) == google::TYPE_CHIP).collect();
    let chips: Vec<String> = chips.into_iter().map(|device| device.name.clone()).collect();
    if chips.len() > 1 {
        text += &spec(node, inventory, &chips);
    }
    text
}

/// The spec of a claim for these, a line for each thing that a container is given.
fn spec(node: &Node<'_>, inventory: &Inventory, devices: &[String]) -> String {
    let record = node.plan("uid-1", devices, inventory, &Ledger::default()).unwrap();
    let spec: Value = serde_json::from_str(record.spec.as_str()).unwrap();
    let mut text = format!("\n--- a claim for {}: {} {}\n", devices.join(" "), spec["kind"], spec["cdiVersion"]);
    for device in spec["devices"].as_array().unwrap() {
        writeln!(text, "{}", device["name"].as_str().unwrap()).unwrap();
        for (what, values) in device["containerEdits"].as_object().unwrap() {
            for value in values.as_array().unwrap() {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                writeln!(text, "  {what}: {value}").unwrap();
            }
        }
    }
    text
}

fn counters(all: &BTreeMap<String, Counter>) -> String {
    let counter = |(name, counter): (&String, &Counter)| format!("{name}={}", counter.value.0);
    all.iter().map(counter).collect::<Vec<_>>().join(" ")
}

fn full(device: &Device) -> String {
    let mut text = format!("{}\n", device.name);
    for (name, value) in device.attributes.iter().flatten() {
        writeln!(text, "  {name}: {}", json!(value)).unwrap();
    }
    for (name, value) in device.capacity.iter().flatten() {
        writeln!(text, "  {name} = {}", value.value.0).unwrap();
    }
    text
}
