//! What is said of devices: whole, and as the API takes it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::resource::v1::Device;
use tessera_core::Ledger;
use tessera_vocabulary::attributes::{portable, standard};
use tessera_vocabulary::capacities;

use crate::node::{EVERYTHING, Node, holds, type_of};

/// What a group has only where all members share it, and what the kernel does not always know.
const SOMETIMES: [&str; 2] = [standard::NUMA_NODE, standard::PCIE_ROOT];

/// CEL that names an attribute which one device lacks aborts the scheduling of the pod, on every node.
pub(crate) fn complete(node: &Node<'_>) -> Result<(), String> {
    let inventory = node.inventory(EVERYTHING)?;
    let published = node.publish(&inventory, &Ledger::default());
    let mut known: BTreeMap<&str, (&Device, BTreeSet<&str>)> = BTreeMap::new();
    for device in published.devices() {
        limits(device)?;
        let mut names = names(device);
        for name in [portable::VENDOR, portable::KIND, portable::MODEL, portable::FAMILY, "type", capacities::MEMORY] {
            holds(names.contains(name), || format!("{} lacks {name}", device.name))?;
        }
        names.retain(|name| !SOMETIMES.contains(name));
        let (first, expected) = known.entry(type_of(device)).or_insert((device, names.clone()));
        holds(names == *expected, || {
            let differ: Vec<_> = names.symmetric_difference(expected).collect();
            format!("{} and {} differ in having {differ:?}", device.name, first.name)
        })?;
    }
    holds(!known.is_empty(), || "nothing is published".to_owned())
}

/// Attributes and capacities.
fn names(device: &Device) -> BTreeSet<&str> {
    let attributes = device.attributes.iter().flat_map(BTreeMap::keys);
    attributes.chain(device.capacity.iter().flat_map(BTreeMap::keys)).map(String::as_str).collect()
}

/// The limits of the API.
fn limits(device: &Device) -> Result<(), String> {
    let label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    holds(device.name.len() <= 63 && device.name.bytes().all(label), || format!("{} is no name", device.name))?;
    let names = names(device);
    holds(names.len() <= 32, || format!("{} says {} things", device.name, names.len()))?;
    for name in names {
        let (domain, id) = name.rsplit_once('/').unwrap_or(("", name));
        let identifier = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        holds(identifier && (1..=32).contains(&id.len()) && domain.len() <= 63, || format!("{name} is no name"))?;
    }
    for (name, value) in device.attributes.iter().flatten() {
        let values = [value.bool.is_some(), value.int.is_some(), value.string.is_some(), value.version.is_some()];
        holds(values.iter().filter(|is| **is).count() == 1, || format!("{name} of {} is no value", device.name))?;
        let text = value.string.as_deref().or(value.version.as_deref()).unwrap_or("-");
        holds((1..=64).contains(&text.len()), || format!("{name} of {} is {text:?}", device.name))?;
    }
    Ok(())
}
