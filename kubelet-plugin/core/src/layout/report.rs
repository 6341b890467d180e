use std::collections::BTreeMap;

use serde_json::Value;
use tessera_policy::{DeviceId, DeviceState, Domain, ReportedDevice};

use super::places::profiles;
use super::{Situation, Stage, Step};
use crate::Layout;
use crate::offers::{Offer, What};
use crate::slices::api_device;

/// What a policy's controller is told of a device: what the whole says of itself in slices, however it is cut, and how far
/// it is.
pub fn report(situation: &Situation<'_>, step: &Step) -> ReportedDevice {
    let accelerator = &situation.device.accelerator;
    let whole = Offer { devices: vec![situation.device], what: What::Whole };
    // Of what the bus alone knows there is nothing to tell.
    let described = accelerator.has_driver_facts();
    let described = described.then(|| api_device(&whole, situation.inventory, situation.ledger));
    // In slices a name without a domain is the driver's own.
    let full = |name: String| if name.contains('/') { name } else { format!("{}/{name}", situation.driver) };
    let (mut attributes, mut capacity) = (BTreeMap::new(), BTreeMap::new());
    if let Some(device) = described {
        let said = device.attributes.into_iter().flatten();
        let value = |value| serde_json::to_value(value).unwrap_or(Value::Null);
        attributes = said.map(|(name, said)| (full(name), value(said))).collect();
        let said = device.capacity.into_iter().flatten();
        capacity = said.map(|(name, said)| (full(name), said.value.0)).collect();
    }
    let change = situation.record.and_then(|record| record.change.as_ref());
    ReportedDevice {
        id: DeviceId { driver: situation.driver.to_owned(), name: accelerator.name().to_string() },
        attributes,
        capacity,
        profiles: accelerator.partitioning.as_ref().map(profiles).unwrap_or_default(),
        domain: domain(situation),
        layout: situation.record.and_then(|record| record.layout.said()),
        state: step.state,
        attempt: step.attempt,
        users: step.users,
        evicting: change.is_some_and(|change| change.stage == Stage::Evicting),
        message: if step.message.is_empty() {
            less_than_said(situation, step).to_owned()
        } else {
            step.message.clone()
        },
    }
}

/// What of a layout is not to be had, for want of something on the server: for people.
fn less_than_said(situation: &Situation<'_>, step: &Step) -> &'static str {
    let layout = situation.record.map(|record| &record.layout).filter(|_| step.state == DeviceState::Ready);
    match layout {
        Some(Layout::Dynamic) if !situation.features.shared_counters => {
            "offered without parts on demand, since the API server keeps no counters (feature gate DRAPartitionableDevices)"
        }
        Some(Layout::Shares { .. }) if !situation.features.shares => {
            "offered to one claim at a time, since the API server keeps nothing of shares (feature gate DRAConsumableCapacity)"
        }
        _ => "",
    }
}

/// The fabric domain that a device lies in. One that is offered with its domain is told to lie there also while its fabric
/// says otherwise, or nothing: whoever has the domain has the device.
fn domain(situation: &Situation<'_>) -> Option<Domain> {
    let found = situation.device.accelerator.spanning_domain();
    let found = found.map(|domain| Domain { name: domain.name.0, nodes: domain.nodes });
    let offered = situation.record.and_then(|record| record.layout.domain());
    match (offered, found) {
        (Some(name), Some(found)) if found.name == name => Some(found),
        (Some(name), _) => Some(Domain { name: name.to_owned(), nodes: None }),
        (None, found) => found,
    }
}
