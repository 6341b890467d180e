//! What containers are told.

use std::collections::{BTreeMap, BTreeSet};

use cdi::Spec;
use tessera_core::{Ledger, Record};

use crate::node::{Node, READY, holds};

/// Each whole and each group alone, and all wholes in one claim: specs that a runtime takes, with nodes that are there and
/// that a container may not make, and that no two accelerators share but for those that are the driver's.
pub(crate) fn sound(node: &Node<'_>) -> Result<(), String> {
    let inventory = node.inventory(READY)?;
    let nobody = Ledger::default();
    let published = node.publish(&inventory, &nobody);
    let wholes: Vec<String> = inventory.devices().iter().map(|one| one.accelerator.name().to_string()).collect();
    let mut owners: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for device in published.devices() {
        let record = node.plan("uid-1", std::slice::from_ref(&device.name), &inventory, &nobody)?;
        for path in nodes(node, &record)? {
            if wholes.contains(&device.name) {
                owners.entry(path).or_default().insert(device.name.clone());
            }
        }
    }
    let own = |name: &String| owners.values().any(|of| of.len() == 1 && of.contains(name));
    let without = wholes.iter().find(|name| !own(name));
    holds(without.is_none(), || format!("{without:?} has no node of its own"))?;
    nodes(node, &node.plan("uid-2", &wholes, &inventory, &nobody)?).map(|_| ())
}

/// The device nodes of a record's spec.
fn nodes(node: &Node<'_>, record: &Record) -> Result<Vec<String>, String> {
    let spec: Spec = serde_json::from_str(record.spec.as_str()).map_err(|error| error.to_string())?;
    spec.validate().map_err(|error| error.to_string())?;
    let again = spec.clone().at_minimum_version();
    holds(again == spec, || format!("version {:?} is not the lowest", spec))?;
    let ids: BTreeSet<_> = record.devices.iter().flat_map(|device| &device.cdi_ids).collect();
    holds(ids.len() == spec.devices.len(), || format!("{ids:?} for {} devices", spec.devices.len()))?;
    let mut paths = Vec::new();
    for device in &spec.devices {
        let mut variables = BTreeSet::new();
        for variable in &device.container_edits.env {
            let name = variable.split('=').next().unwrap_or_default();
            holds(variables.insert(name.to_owned()), || format!("{name} is set twice"))?;
        }
        for own in &device.container_edits.device_nodes {
            let there = node.root().seen_by_agent(&own.path).exists();
            holds(there, || format!("{} does not exist", own.path))?;
            holds(own.permissions.as_deref() == Some("rw"), || format!("{}: {:?}", own.path, own.permissions))?;
            paths.push(own.path.clone());
        }
    }
    holds(!paths.is_empty(), || "a container is given no node".to_owned())?;
    Ok(paths)
}
