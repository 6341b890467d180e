//! Hundreds of devices on a page: what is alike is told once, and one device of each type in full.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::brief::brief;

/// What slices say, without what all of them say.
pub(super) fn summary(slices: &[Value]) -> String {
    let devices: Vec<&Value> = slices.iter().flat_map(|slice| list(&slice["spec"]["devices"])).collect();
    let sets = slices.iter().flat_map(|slice| list(&slice["spec"]["sharedCounters"]));
    let mut text = format!("{} devices in {} slices\n", devices.len(), slices.len());
    text += "\n--- counters\n";
    text += &alike(sets.map(|set| (name(set), numbers(&set["counters"], 0))));

    text += "\n--- devices, in the order of the slices; GPUs that are cut alike once, memory slices from where each begins\n";
    assert!(devices.is_sorted_by_key(|device| part(device).is_none()), "partitions come first");
    let gpu = |device: &&Value| part(device).map(|(gpu, _)| gpu.to_owned());
    let of_gpus = devices.chunk_by(|one, other| gpu(one) == gpu(other)).filter_map(|devices| {
        let (gpu, _) = part(devices[0])?;
        let parts = devices.iter().filter_map(|device| Some((part(device)?.1, what(device).replace(gpu, "gpu"))));
        Some((gpu, format!("\n{}", alike(parts))))
    });
    text += &alike(of_gpus);
    let rest = devices.iter().filter(|device| part(device).is_none());
    text.extend(rest.map(|device| format!("{}: {}\n", name(device), what(device))));

    text += "\n--- one of each type in full\n";
    let mut types = BTreeSet::new();
    for device in devices {
        if types.insert(device["attributes"]["type"]["string"].as_str()) {
            text += &format!("{}\n", brief(device));
        }
    }
    text
}

/// The GPU of a partition, and what its name says besides.
fn part(device: &Value) -> Option<(&str, &str)> {
    name(device).split_once("-mig-")
}

/// What a device is and has, and what it takes.
fn what(device: &Value) -> String {
    let text = |name: &str| device["attributes"][name]["string"].as_str();
    let start = part(device).and_then(|(_, rest)| rest.rsplit('-').next()?.parse().ok()).unwrap_or_default();
    let takes: Vec<_> = list(&device["consumesCounters"]).map(|taken| numbers(&taken["counters"], start)).collect();
    let what = text("profile").or(text("type")).unwrap_or_default();
    format!("{what} with {}; takes {}", numbers(&device["capacity"], 0), takes.join(", "))
}

/// The names of what has the same text, and the text.
fn alike<'a>(all: impl Iterator<Item = (&'a str, String)>) -> String {
    let mut order: Vec<String> = Vec::new();
    let mut names: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, text) in all {
        let same = names.entry(text.clone()).or_default();
        if same.is_empty() {
            order.push(text);
        }
        same.push(name);
    }
    order.iter().map(|text| format!("{}: {text}\n", names[text].join(" "))).collect()
}

/// `name=value` of counters or capacities; of memory slices, of each of which there is one, only which, from `start` on.
fn numbers(all: &Value, start: u64) -> String {
    let (mut numbers, mut slices) = (Vec::new(), Vec::new());
    for (name, value) in all.as_object().into_iter().flatten() {
        let value = value["value"].as_str().unwrap_or("?");
        match name.strip_prefix("memory-slice-").and_then(|slice| slice.parse::<u64>().ok()?.checked_sub(start)) {
            Some(slice) if value == "1" => slices.push(slice),
            _ => numbers.push(format!("{name}={value}")),
        }
    }
    if !slices.is_empty() {
        numbers.push(format!("memory-slices={slices:?}"));
    }
    numbers.join(" ")
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn name(value: &Value) -> &str {
    value["name"].as_str().unwrap_or("?")
}
