//! `tessera-agent inspect`: what the node has, without a kubelet or an API server.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, bail};
use comfy_table::{Table, presets};
use k8s_openapi::api::resource::v1::ResourceSlice;
use serde_json::{Value, json};
use tessera_core::{Features, Inventory, Layout, LayoutRecord, Ledger, NodeIdentity, Pool, slices};
use tessera_driver::AttributeValue;
use tessera_driver::tpu::NodeLabels;
use tessera_vocabulary::{DeviceName, DriverName, attributes::portable, capacities};

use crate::backends;
use crate::cli::{HardwareOptions, InspectOptions, InspectOutput};
use crate::layouts;
use crate::store::boot_id;

/// What was found of one driver.
struct Found {
    driver: DriverName,
    inventory: Inventory,
    /// What an agent keeps of devices that are not offered as it was told at its start.
    layouts: BTreeMap<DeviceName, LayoutRecord>,
}

/// Looks at the hardware once and prints what it found.
///
/// # Errors
/// When there is nothing to look at, and when hardware cannot be used; what of other drivers can be is printed first.
pub fn inspect(hardware: &HardwareOptions, options: &InspectOptions) -> anyhow::Result<()> {
    let (mut found, mut errors, mut absent) = (Vec::new(), Vec::new(), Vec::new());
    for row in backends::chosen(hardware)? {
        let driver = row.name(hardware);
        let mut backend = row.open(hardware, &NodeLabels::default()).backend;
        if !backend.is_present() {
            absent.push(driver.to_string());
            continue;
        }
        match backend.discover() {
            Ok(discovery) => {
                discovery.problems.iter().for_each(|problem| eprintln!("tessera-agent: {problem}"));
                let layouts = layouts::peek(&options.state_dir.join(driver.as_str()), &boot_id()?);
                let laid_out = layouts.iter().map(|(name, record)| (name.clone(), record.device_layout())).collect();
                let inventory = Inventory::new(hardware.offering()).after(&discovery, &Default::default());
                found.push(Found { driver, inventory: inventory.laid_out(&laid_out), layouts });
            }
            Err(error) => errors.push(error),
        }
    }
    if !found.is_empty() {
        let text = match options.output {
            InspectOutput::Table => table(&found),
            InspectOutput::Json => pretty(&Value::Array(found.iter().flat_map(devices).collect()))?,
            InspectOutput::Slices => {
                pretty(&list(found.iter().flat_map(|found| published(hardware, found)).collect())?)?
            }
        };
        writeln!(std::io::stdout(), "{text}").context("cannot print")?;
    }
    match errors.pop() {
        Some(last) => {
            errors.iter().for_each(|error| eprintln!("tessera-agent: {error}"));
            Err(last.into())
        }
        None if found.is_empty() => bail!(
            "nothing of {} below {}: no device on the PCI bus, and no vendor's software",
            absent.join(", "),
            hardware.root().seen_by_agent("/").display()
        ),
        None => Ok(()),
    }
}

fn published(hardware: &HardwareOptions, found: &Found) -> Vec<ResourceSlice> {
    let name = hardware.node_name.clone().unwrap_or_else(|| "this-node".to_owned());
    let node = NodeIdentity { name, uid: String::new() };
    let pool = Pool { driver: found.driver.clone(), node };
    let mut slices = slices(&pool, &found.inventory, Features::default(), &Ledger::default());
    for slice in &mut slices {
        // The owner is known only to the API server; what is written there begins with generation 1.
        slice.metadata.owner_references = None;
        slice.spec.pool.generation = 1;
    }
    slices
}

fn list(slices: Vec<ResourceSlice>) -> anyhow::Result<Value> {
    let items: Vec<_> = slices.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
    Ok(json!({"apiVersion": "v1", "kind": "List", "items": items}))
}

fn pretty(value: &Value) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)?)
}

fn table(found: &[Found]) -> String {
    // A node that follows no policy has no such column.
    let has_layouts = found.iter().any(|found| !found.layouts.is_empty());
    let heading = ["DEVICE", "MODEL", "MEMORY", "PCI ADDRESS", "PCIE ROOT", "NUMA"];
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(heading.into_iter().chain(has_layouts.then_some("LAYOUT")));
    let all = found.iter().flat_map(|found| found.inventory.devices().iter().map(move |device| (found, device)));
    for (found, device) in all {
        let accelerator = &device.accelerator;
        let model = match accelerator.attributes().remove(portable::MODEL) {
            Some(AttributeValue::String(model)) => model,
            _ => String::new(),
        };
        let memory = accelerator
            .capacities()
            .get(capacities::MEMORY)
            .map_or("-".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
        let layout = || found.layouts.get(&accelerator.name()).map_or("-".to_owned(), layout);
        let row = [
            accelerator.name().to_string(),
            model,
            memory,
            accelerator.address.to_string(),
            accelerator.locality.pcie_root.clone().unwrap_or_else(|| "-".to_owned()),
            accelerator.locality.numa_node.map_or("-".to_owned(), |node| node.to_string()),
        ];
        table.add_row(row.into_iter().chain(has_layouts.then(layout)));
    }
    table.to_string()
}

/// What a device is offered as and for whom, and what is done about it.
fn layout(record: &LayoutRecord) -> String {
    let by = |policy: &str| if policy.is_empty() { String::new() } else { format!(" ({policy})") };
    let now = match &record.layout {
        Layout::AsTold => "-".to_owned(),
        layout => format!("{layout}{}", by(&record.policy)),
    };
    match (&record.change, &record.failure) {
        (Some(change), _) => {
            let stage = format!("{:?}", change.stage).to_lowercase();
            format!("{now} -> {}{}, {stage}", change.layout, by(&change.desired.policy))
        }
        (None, Some(failure)) => format!("{now}; failed: {}", failure.message),
        (None, None) => now,
    }
}

fn devices(found: &Found) -> Vec<Value> {
    let one = |one: &tessera_core::Device| {
        let mut described = device(&found.driver, one);
        if let Some(record) = found.layouts.get(&one.accelerator.name()) {
            described["layout"] = json!(layout(record));
        }
        described
    };
    found.inventory.devices().iter().map(one).collect()
}

fn device(driver: &DriverName, device: &tessera_core::Device) -> Value {
    let accelerator = &device.accelerator;
    let attribute = |value| match value {
        AttributeValue::Bool(value) => json!(value),
        AttributeValue::Int(value) => json!(value),
        AttributeValue::String(value) => json!(value),
        AttributeValue::Version(value) => json!(value.to_string()),
    };
    let attributes: serde_json::Map<_, _> =
        accelerator.attributes().into_iter().map(|(name, value)| (name.to_owned(), attribute(value))).collect();
    json!({
        "driver": driver.to_string(),
        "name": accelerator.name().to_string(),
        "attributes": attributes,
        "capacity": accelerator.capacities(),
    })
}
