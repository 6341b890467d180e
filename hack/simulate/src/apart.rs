//! Whether the scheduler, which knows devices by their counters alone, can give two away that have something in common.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::resource::v1::Device;
use tessera_core::{Inventory, Ledger};
use tessera_driver::Placement;
use tessera_vocabulary::DeviceName;

use crate::invariant::{Invariant, Violation, complete_view, hold, parts};
use crate::offers::{Left, groups_of, left, take};
use crate::server::Server;

/// What a device takes: of which accelerators, and which memory slices; all of it if that is not said.
type Parts = Vec<(DeviceName, Option<Placement>)>;

/// A device that takes something of an accelerator.
struct Taker<'a> {
    device: &'a Device,
    place: Option<Placement>,
    held: bool,
}

/// [`Invariant::CountersTellApart`] of all that is published with counters: of two devices with something in common one
/// leaves too little for the other, and of what claims hold nothing is left for any.
pub(crate) fn counters_tell_apart(server: &Server, inventory: &Inventory, ledger: &Ledger) -> Result<(), Violation> {
    let Some(view) = complete_view(server) else { return Ok(()) };
    let full = left(&view, &BTreeSet::new());
    if full.is_empty() {
        return Ok(());
    }
    let (known, held) = (all_parts(inventory, ledger), ledger.held());
    let rest = left(&view, &held);
    let mut takers: BTreeMap<&DeviceName, Vec<Taker<'_>>> = BTreeMap::new();
    for device in view.iter().flat_map(|slice| slice.spec.devices.iter().flatten()) {
        let is_held = held.iter().any(|held| held.as_str() == device.name);
        // Nobody is given what has a taint.
        let free = !is_held && device.taints.as_ref().is_none_or(Vec::is_empty);
        for (accelerator, place) in known.get(&device.name).into_iter().flatten().filter(|_| free || is_held) {
            takers.entry(accelerator).or_default().push(Taker { device, place: *place, held: is_held });
        }
    }
    for (accelerator, takers) in takers {
        for (index, one) in takers.iter().enumerate() {
            for other in takers[index + 1..].iter().filter(|other| one.meets(other)) {
                let both = match (one.held, other.held) {
                    (true, true) => false,
                    (true, false) => fit(&rest, &[other.device]),
                    (false, true) => fit(&rest, &[one.device]),
                    (false, false) => fit(&full, &[one.device, other.device]),
                };
                hold(!both, Invariant::CountersTellApart, || {
                    format!(
                        "{} and {} can both be had, and both take {accelerator}",
                        one.device.name, other.device.name
                    )
                })?;
            }
        }
    }
    Ok(())
}

impl Taker<'_> {
    fn meets(&self, other: &Self) -> bool {
        self.place.zip(other.place).is_none_or(|(one, other)| one.overlaps(other))
    }
}

/// Whether so much is left.
fn fit(left: &Left, devices: &[&Device]) -> bool {
    let mut taken = Left::new();
    for device in devices {
        take(&mut taken, device);
    }
    taken.iter().all(|(counter, taken)| left.get(counter).is_some_and(|left| left + taken >= 0))
}

/// What each device takes that is known or held, worked out without `slices()`.
fn all_parts(inventory: &Inventory, ledger: &Ledger) -> BTreeMap<String, Parts> {
    let mut all = BTreeMap::new();
    for accelerator in inventory.devices().iter().map(|device| &device.accelerator) {
        for name in [accelerator.name(), accelerator.passthrough_name()] {
            all.insert(name.to_string(), vec![(accelerator.name(), None)]);
        }
        for shape in accelerator.partitioning.iter().flat_map(|partitioning| &partitioning.shapes) {
            for place in &shape.placements {
                let name = accelerator.partition_name(shape, *place).to_string();
                all.insert(name, vec![(accelerator.name(), Some(*place))]);
            }
        }
    }
    for group in groups_of(inventory) {
        let members = group.members.iter().map(|address| (DeviceName::gpu(*address), None));
        all.insert(group.name().to_string(), members.collect());
    }
    for device in ledger.records().flat_map(|record| &record.devices) {
        all.insert(device.device.to_string(), parts(device));
    }
    all
}
