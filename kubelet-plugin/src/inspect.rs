//! `tessera-agent inspect`: what the node has, without a kubelet or an API server.

use std::io::Write;

use anyhow::{Context, bail};
use comfy_table::{Table, presets};
use k8s_openapi::api::resource::v1::ResourceSlice;
use serde_json::{Value, json};
use tessera_core::{Features, Inventory, Ledger, NodeIdentity, Pool, slices};
use tessera_driver::AttributeValue;
use tessera_driver::tpu::NodeLabels;
use tessera_vocabulary::{DriverName, attributes::portable, capacities};

use crate::backends;
use crate::cli::{HardwareOptions, InspectOptions, InspectOutput};

/// What was found of one driver.
struct Found {
    driver: DriverName,
    inventory: Inventory,
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
                let inventory = Inventory::new(hardware.offering()).after(&discovery, &Default::default());
                found.push(Found { driver, inventory });
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
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["DEVICE", "MODEL", "MEMORY", "PCI ADDRESS", "PCIE ROOT", "NUMA"]);
    for device in found.iter().flat_map(|found| found.inventory.devices()) {
        let accelerator = &device.accelerator;
        let model = match accelerator.attributes().remove(portable::MODEL) {
            Some(AttributeValue::String(model)) => model,
            _ => String::new(),
        };
        let memory = accelerator
            .capacities()
            .get(capacities::MEMORY)
            .map_or("-".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
        table.add_row([
            accelerator.name().to_string(),
            model,
            memory,
            accelerator.address.to_string(),
            accelerator.locality.pcie_root.clone().unwrap_or_else(|| "-".to_owned()),
            accelerator.locality.numa_node.map_or("-".to_owned(), |node| node.to_string()),
        ]);
    }
    table.to_string()
}

fn devices(found: &Found) -> Vec<Value> {
    found.inventory.devices().iter().map(|one| device(&found.driver, one)).collect()
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
