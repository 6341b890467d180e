//! `tessera-agent inspect`: what the node has, without a kubelet or an API server.

use std::io::Write;

use anyhow::Context;
use comfy_table::{Table, presets};
use k8s_openapi::api::resource::v1::ResourceSlice;
use serde_json::{Value, json};
use tessera_core::{Features, Inventory, Ledger, NodeIdentity, Pool, slices};
use tessera_driver::{
    AttributeValue, Backend,
    nvidia::{Nvidia, Session},
};
use tessera_vocabulary::{attributes::portable, capacities};

use crate::cli::{HardwareOptions, InspectOptions, InspectOutput};

/// Looks at the hardware once and prints what it found.
///
/// # Errors
/// When there is no usable driver on the node.
pub fn inspect(hardware: &HardwareOptions, options: &InspectOptions) -> anyhow::Result<()> {
    let session = Session::new(hardware.nvidia_driver_root());
    let found = Nvidia::new(hardware.root(), session).discover()?;
    for problem in &found.problems {
        eprintln!("tessera-agent: {problem}");
    }
    let inventory = Inventory::new(hardware.offering()).after(&found, &Default::default());
    let text = match options.output {
        InspectOutput::Table => table(&inventory),
        InspectOutput::Json => pretty(&Value::Array(inventory.devices().iter().map(device).collect()))?,
        InspectOutput::Slices => pretty(&list(published(hardware, &inventory))?)?,
    };
    writeln!(std::io::stdout(), "{text}").context("cannot print")
}

fn published(hardware: &HardwareOptions, inventory: &Inventory) -> Vec<ResourceSlice> {
    let name = hardware.node_name.clone().unwrap_or_else(|| "this-node".to_owned());
    let node = NodeIdentity { name, uid: String::new() };
    let pool = Pool { driver: hardware.nvidia_driver_name.clone(), node };
    let mut slices = slices(&pool, inventory, Features::default(), &Ledger::default());
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

fn table(inventory: &Inventory) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["DEVICE", "MODEL", "MEMORY", "PCI ADDRESS", "PCIE ROOT", "NUMA"]);
    for device in inventory.devices() {
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

fn device(device: &tessera_core::Device) -> Value {
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
        "name": accelerator.name().to_string(),
        "attributes": attributes,
        "capacity": accelerator.capacities(),
    })
}
