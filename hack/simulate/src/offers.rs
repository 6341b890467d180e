//! What a node must offer, worked out without `slices()`, and what its counters must allow.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::resource::v1::{Device, ResourceSlice};
use tessera_core::{Condition, Device as Known, Features, Inventory, Ledger, Offering, parse_quantity};
use tessera_driver::topology::{Group, groups};
use tessera_driver::{Partition, Placement, Shape, Work};
use tessera_vocabulary::{DeviceName, PciAddress};

use crate::claim::Claim;
use crate::event::GpuState;
use crate::hardware::{Gpu, Hardware};
use crate::invariant::{Invariant, Violation, broken, complete_view, hold};
use crate::mig::{Instance, Maker};
use crate::server::Server;
use crate::vfio::Driver;

/// What is left of each counter, by set and name.
pub(crate) type Left = BTreeMap<(String, String), i128>;

/// The names of all devices that must be published, and whether they are lost, in no order.
pub(crate) fn published(inventory: &Inventory, ledger: &Ledger, features: Features) -> Vec<(String, bool)> {
    let held = ledger.held();
    let offering = inventory.offering();
    let mut all: Vec<(DeviceName, bool)> = Vec::new();
    let mut known = BTreeSet::new();
    // Without taints nobody is told of what pods have by count.
    let shown = |parts: &[(DeviceName, Option<Placement>)]| features.device_taints || !is_lent(ledger, parts);
    let mut offer = |name: DeviceName, lost: bool, can_be_had: bool| {
        known.insert(name.clone());
        if held.contains(&name) || can_be_had && (features.device_taints || !lost) {
            all.push((name, lost && features.device_taints));
        }
    };
    for device in inventory.devices() {
        let accelerator = &device.accelerator;
        let lost = device.condition != Condition::Ready;
        if accelerator.has_driver_facts() {
            offer(
                accelerator.name(),
                lost,
                shown(&[(accelerator.name(), None)]) && whole_can_be_had(device, offering, ledger),
            );
        }
        if offering.passthrough && accelerator.passthrough.is_some() {
            let uncut = has_user_space(device) || by_hand(device, ledger).is_empty();
            offer(accelerator.passthrough_name(), lost, uncut && shown(&[(accelerator.name(), None)]));
        }
        let Some(partitioning) = &accelerator.partitioning else { continue };
        let by_hand = by_hand(device, ledger);
        let switches = partitioning.switchable && offering.partitions;
        for shape in &partitioning.shapes {
            for place in &shape.placements {
                let is_this = |one: &Partition| (one.shape, one.placement) == (shape.id, *place);
                if !offering.partitions && !partitioning.partitions.iter().any(is_this) {
                    continue;
                }
                let this = by_hand.iter().find(|one| is_this(one));
                let in_the_way = by_hand.iter().any(|one| !is_this(one) && one.placement.overlaps(*place));
                let usable = match this {
                    Some(one) => one.made.is_some(),
                    None => offering.partitions,
                };
                let can_be_had = usable && !in_the_way && (partitioning.cut || switches);
                let can_be_had = can_be_had && !is_bound_by_hand(device, ledger);
                let can_be_had = can_be_had && shown(&[(accelerator.name(), Some(*place))]);
                offer(accelerator.partition_name(shape, *place), lost, can_be_had);
            }
        }
    }
    for group in groups_of(inventory).filter(|_| offering.groups) {
        let member = |address: &PciAddress| inventory.devices().iter().find(|one| one.accelerator.address == *address);
        let members: Vec<&Known> = group.members.iter().filter_map(member).collect();
        let lost = members.iter().any(|one| one.condition != Condition::Ready);
        let parts: Vec<_> = members.iter().map(|one| (one.accelerator.name(), None)).collect();
        let can_be_had = shown(&parts) && members.iter().all(|one| whole_can_be_had(one, offering, ledger));
        offer(group.name(), lost, can_be_had);
    }
    // What a claim holds and this agent has never seen is lost too, but for a group whose members are there and grouped
    // otherwise by now.
    let is_ready = |name: &DeviceName| {
        let same = |one: &&Known| one.accelerator.has_driver_facts() && one.accelerator.name() == *name;
        inventory.devices().iter().find(same).is_some_and(|one| one.condition == Condition::Ready)
    };
    let unseen = ledger.held_as_published().into_values().map(|(held, _)| held);
    all.extend(unseen.filter(|held| !known.contains(&held.device)).map(|held| {
        let regrouped = held.uses.len() > 1 && held.uses.iter().all(|one| is_ready(&one.accelerator));
        (held.device.clone(), !regrouped && features.device_taints)
    }));
    all.into_iter().map(|(name, lost)| (name.to_string(), lost)).collect()
}

/// Whether pods have something of this by count.
fn is_lent(ledger: &Ledger, parts: &[(DeviceName, Option<Placement>)]) -> bool {
    ledger.loans().units.values().flat_map(|loan| &loan.uses).any(|used| {
        parts.iter().any(|(accelerator, place)| {
            used.accelerator == *accelerator
                && used.placement.zip(*place).is_none_or(|(one, other)| one.overlaps(other))
        })
    })
}

/// The groups of all accelerators that their driver has told of.
pub(crate) fn groups_of(inventory: &Inventory) -> impl Iterator<Item = Group> + use<> {
    let told = inventory.devices().iter().map(|device| &device.accelerator).filter(|one| one.has_driver_facts());
    groups(told).into_iter()
}

fn whole_can_be_had(device: &Known, offering: Offering, ledger: &Ledger) -> bool {
    let uncut = device.accelerator.partitioning.as_ref().is_none_or(|partitioning| {
        let switches = partitioning.switchable && offering.partitions;
        by_hand(device, ledger).is_empty() && (!partitioning.cut || switches)
    });
    uncut && !is_bound_by_hand(device, ledger)
}

/// The partitions of a device that no record says are a claim's.
fn by_hand<'a>(device: &'a Known, ledger: &Ledger) -> Vec<&'a Partition> {
    let accelerator = &device.accelerator;
    let owned: BTreeSet<_> = cuts(ledger).collect();
    let partitions = accelerator.partitioning.iter().flat_map(|partitioning| &partitioning.partitions);
    partitions.filter(|one| !owned.contains(&(accelerator.address, one.shape, one.placement))).collect()
}

fn has_user_space(device: &Known) -> bool {
    device.accelerator.passthrough.is_some_and(|passthrough| passthrough.bound)
}

fn is_bound_by_hand(device: &Known, ledger: &Ledger) -> bool {
    has_user_space(device) && !passes(ledger).any(|address| address == device.accelerator.address)
}

/// What records say is cut, or about to be.
fn cuts(ledger: &Ledger) -> impl Iterator<Item = (PciAddress, u32, Placement)> {
    ledger.records().flat_map(|record| record.work()).filter_map(|(work, _)| match work {
        Work::Cut { accelerator, shape, placement, .. } => Some((*accelerator, *shape, *placement)),
        Work::Join { .. } | Work::Pass { .. } => None,
    })
}

/// What records say was handed to user space, or is about to be.
fn passes(ledger: &Ledger) -> impl Iterator<Item = PciAddress> {
    ledger.records().flat_map(|record| record.work()).filter_map(|(work, _)| match work {
        Work::Pass { accelerator } => Some(*accelerator),
        Work::Join { .. } | Work::Cut { .. } => None,
    })
}

/// [`Invariant::AdminsLeftAlone`].
pub(crate) fn leave_admins_alone(
    server: &Server,
    hardware: &Hardware,
    inventory: &Inventory,
    ledger: &Ledger,
) -> Result<(), Violation> {
    let held = ledger.held();
    let devices = server.slices.values().flat_map(|slice| slice.spec.devices.iter().flatten());
    let names = devices.filter(|device| device.taints.as_ref().is_none_or(Vec::is_empty)).map(|device| &device.name);
    let free: BTreeSet<&String> =
        names.filter(|name| !held.iter().any(|held| held.as_str() == name.as_str())).collect();
    let offered = |name: &DeviceName| free.iter().any(|free| *free == name.as_str());
    let groups: Vec<Group> = groups_of(inventory).collect();
    let with = |gpu: &Gpu| {
        let address = gpu.address();
        groups.iter().filter(move |group| group.members.contains(&address)).map(Group::name)
    };
    // What does not answer cannot be looked at.
    let answers = |state: GpuState| !hardware.driver_fails && matches!(state, GpuState::Ready | GpuState::NoNode);
    let promised: BTreeSet<_> = cuts(ledger).collect();
    let passed: BTreeSet<_> = passes(ledger).collect();
    for gpu in hardware.gpus.iter().filter(|gpu| answers(gpu.state)) {
        let bound = gpu.functions.driver() == Some(Driver::Vfio) && !passed.contains(&gpu.address());
        let mig = gpu.mig.iter();
        let shapes = mig.flat_map(|mig| &mig.shapes);
        let all = shapes.flat_map(|shape| shape.placements.iter().map(move |place| (shape, *place)));
        let parts = all.clone().map(|(shape, place)| gpu.partition_name(shape, place));
        if let Some(name) = parts.chain([gpu.name()]).chain(with(gpu)).find(|name| bound && offered(name)) {
            return broken(Invariant::AdminsLeftAlone, || format!("{name} is offered and bound to VFIO by hand"));
        }
        // Where a claim was promised the same since an earlier look, the work will find out.
        let of_admin = |one: &&Instance| {
            one.maker == Maker::Admin && !promised.contains(&(gpu.address(), one.shape, one.placement))
        };
        for instance in gpu.mig.iter().flat_map(|mig| &mig.instances).filter(of_admin) {
            let other = |(shape, place): &(&Shape, Placement)| {
                place.overlaps(instance.placement) && (shape.id, *place) != (instance.shape, instance.placement)
            };
            let over = all.clone().filter(other).map(|(shape, place)| gpu.partition_name(shape, place));
            let wholes = [gpu.name(), gpu.passthrough_name()];
            if let Some(name) = over.chain(wholes).chain(with(gpu)).find(offered) {
                return broken(Invariant::AdminsLeftAlone, || format!("{name} is offered over {instance:?}"));
            }
        }
    }
    Ok(())
}

/// [`Invariant::CountersSuffice`].
pub(crate) fn counters_suffice(server: &Server, ledger: &Ledger, hardware: &Hardware) -> Result<(), Violation> {
    let Some(view) = complete_view(server) else { return Ok(()) };
    // Where a person has destroyed what a claim has, and made something else, there may not be enough for both.
    let held = ledger.records().filter(|record| record.is_whole()).flat_map(|record| &record.devices);
    let held = held
        .filter(|device| !device.admin_access && hardware.has(device))
        .map(|device| device.device.clone())
        .collect();
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
