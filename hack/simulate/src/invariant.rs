//! What must hold after each step.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::api::resource::v1::ResourceSlice;
use tessera_core::{Condition, Features, Inventory, Ledger};
use tessera_vocabulary::{DeviceName, taints};

use crate::claim::Claim;
use crate::disk::Files;
use crate::server::Server;

/// The API's limit with taints.
const DEVICES_PER_SLICE: usize = 64;

/// The names of what must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invariant {
    /// The ledger says of a device that at most one claim has it, admin access aside.
    OneHolder,
    /// Two claims whose pods may run never share a device.
    RunningApart,
    /// There is no CDI spec without a record.
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

/// [`Invariant::OneHolder`].
pub(crate) fn one_holder(ledger: &Ledger) -> Result<(), Violation> {
    let mut holders: Vec<(&DeviceName, &str)> = Vec::new();
    for record in ledger.records() {
        for device in record.devices.iter().filter(|device| !device.admin_access) {
            let uid = record.claim.uid.as_str();
            if let Some((_, other)) = holders.iter().find(|(held, other)| *held == &device.device && *other != uid) {
                return broken(Invariant::OneHolder, || format!("{} is held by {other} and {uid}", device.device));
            }
            holders.push((&device.device, uid));
        }
    }
    Ok(())
}

/// [`Invariant::RunningApart`]. Claims whose record a person damaged are left out: the agent has no way to know.
pub(crate) fn running_apart(claims: &[Claim]) -> Result<(), Violation> {
    let mut users: Vec<(&DeviceName, &Claim)> = Vec::new();
    for claim in claims.iter().filter(|claim| !claim.tampered) {
        for device in claim.answer.iter().flatten().filter(|device| !device.admin_access) {
            if let Some((_, other)) =
                users.iter().find(|(used, other)| *used == &device.device && other.uid() != claim.uid())
            {
                return broken(Invariant::RunningApart, || {
                    format!("{} is used by {} and {}", device.device, other.uid(), claim.uid())
                });
            }
            users.push((&device.device, claim));
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
    }
    Ok(())
}

/// [`Invariant::SlicesTrue`] and [`Invariant::OneGeneration`], worked out without `slices()`.
pub(crate) fn slices_true(
    server: &Server,
    inventory: &Inventory,
    held: &BTreeSet<DeviceName>,
    features: Features,
) -> Result<(), Violation> {
    let lost = |condition: &Condition| matches!(condition, Condition::Lost { .. });
    let seen = inventory.devices().iter().map(|device| (device.accelerator.name(), lost(&device.condition)));
    // What a claim holds and this agent has never seen is lost too, and comes last.
    let unseen = held.iter().filter(|name| inventory.find(name).is_none()).map(|name| (name.clone(), true));
    let expected: Vec<(String, bool)> = seen
        .chain(unseen)
        .filter(|(name, lost)| features.device_taints || !lost || held.contains(name))
        .map(|(name, lost)| (name.to_string(), lost && features.device_taints))
        .collect();
    let is_lost = |taint: &k8s_openapi::api::resource::v1::DeviceTaint| taint.key == taints::LOST;
    let found: Vec<(String, bool)> = server
        .slices
        .values()
        .flat_map(|slice| slice.spec.devices.iter().flatten())
        .map(|device| (device.name.clone(), device.taints.iter().flatten().any(is_lost)))
        .collect();
    hold(found == expected, Invariant::SlicesTrue, || format!("published {found:?}, expected {expected:?}"))?;

    let count = expected.len().div_ceil(DEVICES_PER_SLICE).max(1);
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
