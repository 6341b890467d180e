//! What must hold after each step.

mod owners;
mod passing;

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::resource::v1::ResourceSlice;
use tessera_core::{Inventory, Ledger, PreparedDevice};
use tessera_driver::{Outcome, Placement, Work};
use tessera_vocabulary::{DeviceName, PciAddress, taints};

use crate::claim::Claim;
use crate::disk::Files;
use crate::hardware::Hardware;
use crate::mig::{Instance, Maker};
use crate::server::Server;

pub(crate) use self::owners::one_owner;
pub(crate) use self::passing::{moves_owned, passed_there};

/// The API's limit with taints.
const DEVICES_PER_SLICE: usize = 64;
/// The API's limits on counters.
const COUNTERS_PER_SET: usize = 32;
const SETS_PER_SLICE: usize = 8;

/// The names of what must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invariant {
    /// The ledger says of a device that at most one claim has it, admin access aside.
    OneHolder,
    /// Two claims whose pods may run never share a device.
    RunningApart,
    /// What a pod has by count no claim has, and no other pod, unless they share it.
    OneOwner,
    /// There is no CDI spec without a record that is whole.
    SpecOwned,
    /// A repeated prepare gives the answer of the first.
    SameAnswer,
    /// Unprepare succeeds when the disk works.
    UnprepareEnds,
    /// After unprepare nothing of the claim is left.
    NothingLeft,
    /// A prepare that fails leaves nothing, or what could not be removed and its record.
    AllOrNothing,
    /// After a sweep each record has its files and each file its record; a claim whose pods may run is not forgotten.
    SweptClean,
    /// What belongs to nobody is undone within two comparisons with the kubelet's pods and the API server.
    OrphansUndone,
    /// A record that cannot be read hides no other.
    RecordsLoaded,
    /// Published slices say what the inventory and the ledger say.
    SlicesTrue,
    /// All slices of a pool have one generation, and it rises when more than one changes.
    OneGeneration,
    /// What a scheduler sees between two writes is no mixture of old and new.
    NoMixture,
    /// Nothing is written when nothing has changed.
    NoNeedlessWrite,
    /// Publishing comes to an end.
    PublishingEnds,
    /// Each instance that an agent made has a record that says so.
    InstancesOwned,
    /// What a record says was made is there, unless a person or a reset took it; so is all that the kubelet is told of.
    InstancesThere,
    /// A function of a GPU has the driver that people left it with, or a record says that a claim has it for user space.
    MovesOwned,
    /// What a record says was handed to user space is there; and no other claim has it by its driver.
    PassedThere,
    /// What an admin made is never destroyed by an agent, and what an admin bound to VFIO is left there.
    AdminsKept,
    /// Nothing is offered that overlaps what an admin made, or that an admin bound to VFIO, unless a claim holds it.
    AdminsLeftAlone,
    /// Counters admit all that claims hold: one below zero blocks the whole pool.
    CountersSuffice,
    /// Of two devices that have something in common the scheduler can be brought to give away one only.
    CountersTellApart,
}

/// One that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// In which way.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.what)
    }
}

pub(crate) fn broken(invariant: Invariant, what: impl FnOnce() -> String) -> Result<(), Violation> {
    Err(Violation { invariant, what: what() })
}

pub(crate) fn hold(holds: bool, invariant: Invariant, what: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { broken(invariant, what) }
}

/// The parts of accelerators that a device takes: which, and which memory slices; all of it if that is not said. Members
/// of a group are those that containers are handed, each under a name of its own, whatever the record says is used.
pub(crate) fn parts(device: &PreparedDevice) -> Vec<(DeviceName, Option<Placement>)> {
    if device.uses.is_empty() {
        return vec![(device.device.clone(), None)];
    }
    if let [_, _, ..] = device.cdi_ids.as_slice() {
        let member = |id: &String| id.split_once('=')?.1.split('_').next()?.parse().ok();
        return device.cdi_ids.iter().filter_map(member).map(|member| (member, None)).collect();
    }
    device.uses.iter().map(|one| (one.accelerator.clone(), one.placement)).collect()
}

/// Says which two of these have something in common. Each comes with its owner.
fn meeting<'a>(devices: impl Iterator<Item = (&'a str, &'a PreparedDevice)>) -> Option<String> {
    let mut taken: Vec<(DeviceName, Option<Placement>, &str)> = Vec::new();
    for (owner, device) in devices.filter(|(_, device)| !device.admin_access) {
        for (accelerator, place) in parts(device) {
            let meets = |(known, other, by): &&(DeviceName, Option<Placement>, &str)| {
                *by != owner
                    && *known == accelerator
                    && place.zip(*other).is_none_or(|(one, other)| one.overlaps(other))
            };
            if let Some((_, _, other)) = taken.iter().find(meets) {
                return Some(format!("{} of {owner} is {other}'s too", device.device));
            }
            taken.push((accelerator, place, owner));
        }
    }
    None
}

/// [`Invariant::OneHolder`].
pub(crate) fn one_holder(ledger: &Ledger) -> Result<(), Violation> {
    let held = ledger.records().flat_map(|record| {
        let uid = record.claim.uid.as_str();
        record.devices.iter().map(move |device| (uid, device))
    });
    meeting(held).map_or(Ok(()), |what| broken(Invariant::OneHolder, || what))
}

/// [`Invariant::RunningApart`]. Claims whose record a person damaged are left out: the agent has no way to know.
pub(crate) fn running_apart(claims: &[Claim]) -> Result<(), Violation> {
    let used = claims.iter().filter(|claim| !claim.tampered).flat_map(|claim| {
        let uid = claim.uid().as_str();
        claim.answer.iter().flatten().map(move |device| (uid, device))
    });
    meeting(used).map_or(Ok(()), |what| broken(Invariant::RunningApart, || what))
}

/// [`Invariant::InstancesOwned`].
pub(crate) fn instances_owned(files: &Files, hardware: &Hardware) -> Result<(), Violation> {
    for (address, instance) in hardware.instances().filter(|(_, instance)| instance.maker == Maker::Agent) {
        let says = |work: &Work| match work {
            Work::Cut { accelerator, shape, placement, .. } => {
                (*accelerator, *shape, *placement) == (address, instance.shape, instance.placement)
            }
            Work::Join { .. } | Work::Pass { .. } => false,
        };
        if !files.work().any(says) {
            return broken(Invariant::InstancesOwned, || format!("nobody owns {instance:?} of {address}"));
        }
    }
    Ok(())
}

/// [`Invariant::InstancesThere`] of records that are whole.
pub(crate) fn instances_there(ledger: &Ledger, hardware: &Hardware) -> Result<(), Violation> {
    for record in ledger.records().filter(|record| record.is_whole()) {
        for (work, outcome) in record.work() {
            let (Work::Cut { accelerator, shape, placement, .. }, Some(Outcome::Cut(made))) = (work, outcome) else {
                continue;
            };
            let is_it = |(address, one): (PciAddress, &Instance)| {
                (address, one.shape, one.placement) == (*accelerator, *shape, *placement)
                    && one.made().as_ref() == Some(made)
            };
            if !hardware.taken.contains(&made.uuid) && !hardware.instances().any(is_it) {
                let uid = &record.claim.uid;
                return broken(Invariant::InstancesThere, || format!("{uid} has {made:?}, which is not there"));
            }
        }
    }
    Ok(())
}

/// [`Invariant::InstancesThere`] of what the kubelet is told: the container finds what its CDI spec names.
pub(crate) fn is_there(
    devices: &[PreparedDevice],
    spec: Option<&Vec<u8>>,
    hardware: &Hardware,
) -> Result<(), Violation> {
    let text = String::from_utf8_lossy(spec.map_or(&[][..], Vec::as_slice));
    let excused = hardware.taken.iter().any(|uuid| text.contains(uuid.as_str()));
    for device in devices.iter().filter(|_| !excused) {
        passing::is_with_its_driver(device, &text, hardware)?;
        for (accelerator, place) in parts(device) {
            let Some(place) = place else { continue };
            let gpus = hardware.gpus.iter().filter(|gpu| gpu.name() == accelerator);
            let mut instances = gpus.flat_map(|gpu| gpu.mig.iter()).flat_map(|mig| &mig.instances);
            let named = |one: &Instance| one.made().is_some_and(|made| text.contains(&made.uuid));
            let there = instances.any(|one| one.placement == place && named(one));
            hold(there, Invariant::InstancesThere, || format!("{} was handed out and is not there", device.device))?;
        }
    }
    Ok(())
}

/// [`Invariant::SpecOwned`]. `spared` are strays that a person made.
pub(crate) fn specs_owned(files: &Files, claims: &[Claim]) -> Result<(), Violation> {
    for claim in claims.iter().filter(|claim| !claim.tampered) {
        if files.specs.contains_key(&claim.file) && !files.records.contains_key(claim.uid()) {
            return broken(Invariant::SpecOwned, || format!("the spec of {} has no record", claim.uid()));
        }
        let half = files.kept.get(claim.uid()).is_some_and(|kept| !kept.whole);
        if half && files.specs.contains_key(&claim.file) {
            return broken(Invariant::SpecOwned, || format!("the spec of {} is there before or after it", claim.uid()));
        }
    }
    Ok(())
}

/// [`Invariant::SlicesTrue`] and [`Invariant::OneGeneration`]. `expected` comes in no order.
pub(crate) fn slices_true(
    server: &Server,
    mut expected: Vec<(String, bool)>,
    inventory: &Inventory,
) -> Result<(), Violation> {
    let is_lost = |taint: &k8s_openapi::api::resource::v1::DeviceTaint| taint.key == taints::LOST;
    let mut found: Vec<(String, bool)> = server
        .slices
        .values()
        .flat_map(|slice| slice.spec.devices.iter().flatten())
        .map(|device| (device.name.clone(), device.taints.iter().flatten().any(is_lost)))
        .collect();
    let accelerators = inventory.devices();
    let offering = inventory.offering();
    let sets = if offering.partitions || offering.passthrough || offering.groups {
        let cut = accelerators.iter().filter(|device| device.accelerator.partitioning.is_some()).count();
        accelerators.len().div_ceil(COUNTERS_PER_SET) + cut
    } else {
        0
    };
    expected.sort();
    found.sort();
    hold(found == expected, Invariant::SlicesTrue, || format!("published {found:?}, expected {expected:?}"))?;

    let count = (sets.div_ceil(SETS_PER_SLICE) + expected.len().div_ceil(DEVICES_PER_SLICE)).max(1);
    let uid = server.node_uid();
    let generation = server.slices.values().next().map(|slice| slice.spec.pool.generation);
    let well = |slice: &ResourceSlice| {
        i64::try_from(count).is_ok_and(|count| slice.spec.pool.resource_slice_count == count)
            && slice.metadata.owner_references.iter().flatten().all(|owner| owner.uid == uid)
    };
    hold(server.slices.len() == count, Invariant::SlicesTrue, || {
        format!("{} slices, expected {count}", server.slices.len())
    })?;
    hold(server.slices.values().all(|slice| well(slice)), Invariant::SlicesTrue, || {
        format!("the count is not {count}, or the owner not {uid}")
    })?;
    hold(
        server.slices.values().all(|slice| Some(slice.spec.pool.generation) == generation),
        Invariant::OneGeneration,
        || "slices of one pool have several generations".to_owned(),
    )?;
    Ok(())
}

/// What a scheduler sees: the slices of the highest generation, if all are there.
pub(crate) fn complete_view(server: &Server) -> Option<Vec<&ResourceSlice>> {
    let highest = server.slices.values().map(|slice| slice.spec.pool.generation).max()?;
    let view: Vec<&ResourceSlice> = server
        .slices
        .values()
        .filter(|slice| slice.spec.pool.generation == highest)
        .map(|slice| slice.as_ref())
        .collect();
    let complete = view.iter().all(|slice| usize::try_from(slice.spec.pool.resource_slice_count) == Ok(view.len()));
    complete.then_some(view)
}

/// [`Invariant::NoMixture`]: in a mixture a device that moved from one slice to another is there twice. What a person
/// added is not the publisher's doing.
pub(crate) fn view_is_no_mixture(server: &Server) -> Result<(), Violation> {
    if server.slices.len() < 2 || server.slices.keys().any(|name| name.starts_with("by-hand")) {
        return Ok(());
    }
    let Some(view) = complete_view(server) else { return Ok(()) };
    let mut seen = BTreeMap::new();
    for slice in view {
        for device in slice.spec.devices.iter().flatten() {
            if seen.insert(device.name.as_str(), ()).is_some() {
                return broken(Invariant::NoMixture, || format!("{} is in two slices of one view", device.name));
            }
        }
    }
    Ok(())
}
