//! What a node must offer, worked out without `slices()`, and what its counters must allow.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::resource::v1::{Device, ResourceSlice};
use tessera_core::{Condition, Features, Inventory, Ledger, parse_quantity};
use tessera_driver::{Partition, Placement, Work};
use tessera_vocabulary::{DeviceName, PciAddress};

use crate::claim::Claim;
use crate::event::GpuState;
use crate::hardware::Hardware;
use crate::invariant::{Invariant, Violation, broken, complete_view, hold};
use crate::mig::{Instance, Maker};
use crate::server::Server;

/// What is left of each counter, by set and name.
pub(crate) type Left = BTreeMap<(String, String), i128>;

/// The names of all devices that must be published, and whether they are lost, in no order.
pub(crate) fn published(inventory: &Inventory, ledger: &Ledger, features: Features) -> Vec<(String, bool)> {
    let held = ledger.held();
    let on_demand = inventory.offering().partitions;
    let owned: BTreeSet<_> = cuts(ledger).collect();
    let mut all: Vec<(DeviceName, bool)> = Vec::new();
    let mut known = BTreeSet::new();
    for device in inventory.devices() {
        let accelerator = &device.accelerator;
        let lost = device.condition != Condition::Ready;
        let mut offer = |name: DeviceName, can_be_had: bool| {
            known.insert(name.clone());
            if held.contains(&name) || can_be_had && (features.device_taints || !lost) {
                all.push((name, lost && features.device_taints));
            }
        };
        let Some(partitioning) = &accelerator.partitioning else {
            offer(accelerator.name(), true);
            continue;
        };
        let by_hand = |one: &&Partition| !owned.contains(&(accelerator.address, one.shape, one.placement));
        let by_hand: Vec<&Partition> = partitioning.partitions.iter().filter(by_hand).collect();
        let switches = partitioning.switchable && on_demand;
        offer(accelerator.name(), by_hand.is_empty() && (!partitioning.cut || switches));
        for shape in &partitioning.shapes {
            for place in &shape.placements {
                let is_this = |one: &Partition| (one.shape, one.placement) == (shape.id, *place);
                if !on_demand && !partitioning.partitions.iter().any(is_this) {
                    continue;
                }
                let this = by_hand.iter().find(|one| is_this(one));
                let in_the_way = by_hand.iter().any(|one| !is_this(one) && one.placement.overlaps(*place));
                let usable = match this {
                    Some(one) => one.made.is_some(),
                    None => on_demand,
                };
                let can_be_had = usable && !in_the_way && (partitioning.cut || switches);
                offer(accelerator.partition_name(shape, *place), can_be_had);
            }
        }
    }
    // What a claim holds and this agent has never seen is lost too.
    all.extend(held.into_iter().filter(|name| !known.contains(name)).map(|name| (name, features.device_taints)));
    all.into_iter().map(|(name, lost)| (name.to_string(), lost)).collect()
}

/// What records say is cut, or about to be.
fn cuts(ledger: &Ledger) -> impl Iterator<Item = (PciAddress, u32, Placement)> {
    ledger.records().flat_map(|record| record.work()).filter_map(|(work, _)| match work {
        Work::Cut { accelerator, shape, placement, .. } => Some((*accelerator, *shape, *placement)),
        Work::Join { .. } | Work::Pass { .. } => None,
    })
}

/// [`Invariant::AdminsLeftAlone`].
pub(crate) fn leave_admins_alone(server: &Server, hardware: &Hardware, ledger: &Ledger) -> Result<(), Violation> {
    let held = ledger.held();
    let names = server.slices.values().flat_map(|slice| slice.spec.devices.iter().flatten()).map(|device| &device.name);
    let free: BTreeSet<&String> =
        names.filter(|name| !held.iter().any(|held| held.as_str() == name.as_str())).collect();
    // What does not answer cannot be looked at.
    let answers = |state: GpuState| !hardware.driver_fails && matches!(state, GpuState::Ready | GpuState::NoNode);
    let promised: BTreeSet<_> = cuts(ledger).collect();
    for gpu in hardware.gpus.iter().filter(|gpu| answers(gpu.state)) {
        let Some(mig) = &gpu.mig else { continue };
        // Where a claim was promised the same since an earlier look, the work will find out.
        let of_admin = |one: &&Instance| {
            one.maker == Maker::Admin && !promised.contains(&(gpu.address(), one.shape, one.placement))
        };
        for instance in mig.instances.iter().filter(of_admin) {
            let over = mig.shapes.iter().flat_map(|shape| {
                let places = shape.placements.iter().filter(|place| place.overlaps(instance.placement));
                let others = places.filter(|place| (shape.id, **place) != (instance.shape, instance.placement));
                others.map(|place| gpu.partition_name(shape, *place))
            });
            let wrong = over.chain([gpu.name()]).find(|name| free.iter().any(|free| *free == name.as_str()));
            if let Some(name) = wrong {
                return broken(Invariant::AdminsLeftAlone, || format!("{name} is offered over {instance:?}"));
            }
        }
    }
    Ok(())
}

/// [`Invariant::CountersSuffice`].
pub(crate) fn counters_suffice(server: &Server, ledger: &Ledger) -> Result<(), Violation> {
    let Some(view) = complete_view(server) else { return Ok(()) };
    let held = ledger.records().filter(|record| record.is_whole()).flat_map(|record| &record.devices);
    let held = held.filter(|device| !device.admin_access).map(|device| device.device.clone()).collect();
    let left = left(&view, &held);
    let short = left.iter().find(|(_, left)| **left < 0);
    hold(short.is_none(), Invariant::CountersSuffice, || format!("what claims hold takes {short:?} below zero"))
}

/// The devices that the API server says are taken.
pub(crate) fn allocated(claims: &[Claim]) -> BTreeSet<DeviceName> {
    let taking = claims.iter().filter(|claim| claim.exists && !claim.admin);
    taking.flat_map(|claim| claim.allocation.iter().flatten().cloned()).collect()
}

/// What is left of the counters of a pool when these of its devices are taken.
pub(crate) fn left(view: &[&ResourceSlice], taken: &BTreeSet<DeviceName>) -> Left {
    let mut left = Left::new();
    for set in view.iter().flat_map(|slice| slice.spec.shared_counters.iter().flatten()) {
        for (name, counter) in &set.counters {
            let value = parse_quantity(&counter.value).map_or(0, i128::from);
            left.insert((set.name.clone(), name.clone()), value);
        }
    }
    let devices = view.iter().flat_map(|slice| slice.spec.devices.iter().flatten());
    for device in devices.filter(|device| taken.iter().any(|name| name.as_str() == device.name)) {
        take(&mut left, device);
    }
    left
}

/// Takes what a device consumes. Says whether it was there.
pub(crate) fn take(left: &mut Left, device: &Device) -> bool {
    let mut enough = true;
    for consumed in device.consumes_counters.iter().flatten() {
        for (name, counter) in &consumed.counters {
            let value = parse_quantity(&counter.value).map_or(0, i128::from);
            let of = left.entry((consumed.counter_set.clone(), name.clone())).or_default();
            *of -= value;
            enough &= *of >= 0;
        }
    }
    enough
}
