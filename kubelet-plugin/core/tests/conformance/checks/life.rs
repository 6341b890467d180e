//! A life: hardware that goes and comes, claims that are prepared and undone, drivers that are loaded anew.

use std::collections::BTreeSet;

use fastrand::Rng;
use k8s_openapi::api::resource::v1::{Device, DeviceAttribute};
use tessera_core::{Inventory, Ledger, StoredRecord};
use tessera_vocabulary::attributes::portable;

use crate::node::{EVERYTHING, Node, holds, look, type_of};

/// A dozen of each thing: a step publishes a whole pool, which takes long where there are hundreds of partitions.
const STEPS: u32 = 60;

/// What a claim holds stays published, tainted while it is lost; nobody is given what another holds; what is said of a
/// device never changes; and what is done again after all is over gives what there was at the beginning.
pub(crate) fn holds_true(node: &Node<'_>) -> Result<(), String> {
    let mut backend = node.backend();
    let beginning = Inventory::new(EVERYTHING).after(&look(&mut *backend)?, &BTreeSet::new());
    let first = node.publish(&beginning, &Ledger::default());
    let known = first.by_name();
    let names: Vec<String> = first.devices().map(|device| device.name.clone()).collect();
    let count = node.addresses().len();
    let (mut inventory, mut ledger, mut random) = (beginning, Ledger::default(), Rng::with_seed(7));
    for step in 0..STEPS {
        match random.u8(..4) {
            0 => {
                let (position, present) = (random.usize(..count), random.bool());
                node.change(|hardware| node.subject.plug(hardware, position, present));
            }
            1 => node.change(|hardware| node.subject.reload(hardware)),
            2 => {
                let name = names[random.usize(..names.len())].clone();
                if let Ok(record) = node.plan(&format!("uid-{step}"), &[name], &inventory, &ledger) {
                    // Work counts as under way: its claim holds what it is about.
                    ledger.insert(StoredRecord::encode(record).unwrap());
                }
            }
            _ => {
                let claims: Vec<_> = ledger.records().map(|record| record.claim.uid.clone()).collect();
                claims.get(random.usize(..8)).map(|uid| ledger.remove(uid));
            }
        }
        inventory = inventory.after(&look(&mut *backend)?, &ledger.accelerators_in_use());
        let published = node.publish(&inventory, &ledger);
        let now = published.by_name();
        for prepared in ledger.records().flat_map(|record| &record.devices) {
            let held = &prepared.device;
            let device = now.get(held.as_str()).ok_or_else(|| format!("step {step}: {held} is held and vanished"))?;
            let usable = inventory.check(prepared).is_ok();
            holds(usable == device.taints.is_none(), || format!("step {step}: {held} usable {usable}, {device:?}"))?;
        }
        for (name, device) in &now {
            // Who is left of those that links tie may be grouped anew.
            let Some(before) = known.get(name).copied().filter(|_| type_of(device) != "group") else {
                continue;
            };
            let same = (own(before), &before.capacity) == (own(device), &device.capacity);
            holds(same, || format!("step {step}: {before:?} became {device:?}"))?;
        }
        let mut uses: Vec<_> = ledger.records().flat_map(|record| &record.devices).flat_map(uses).collect();
        let all = uses.len();
        uses.sort();
        uses.dedup();
        holds(uses.len() == all, || format!("step {step}: one accelerator is held whole twice"))?;
    }
    for position in 0..count {
        node.change(|hardware| node.subject.plug(hardware, position, true));
    }
    inventory = inventory.after(&look(&mut *backend)?, &BTreeSet::new());
    holds(node.publish(&inventory, &Ledger::default()).0 == first.0, || "in the end it is not as it was".to_owned())
}

/// What is said of a device, but for whom links tie it to: that changes with who is there.
fn own(device: &Device) -> Vec<(&String, &DeviceAttribute)> {
    let of_others = [portable::FABRIC_DOMAIN, portable::FABRIC_KIND];
    device.attributes.iter().flatten().filter(|(name, _)| !of_others.contains(&name.as_str())).collect()
}

/// The accelerators that a device has whole.
fn uses(device: &tessera_core::PreparedDevice) -> Vec<String> {
    let uses = device.uses.iter().filter(|one| one.placement.is_none()).map(|one| one.accelerator.to_string());
    let own = device.uses.is_empty().then(|| device.device.to_string());
    uses.chain(own).collect()
}
