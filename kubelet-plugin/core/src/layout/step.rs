//! What is to be done next so that a device gets the layout that is wanted.

use tessera_driver::Accelerator;
use tessera_policy::{Deadline, DesiredDevice, DeviceId, DeviceState, Drain};
use tessera_vocabulary::DeviceName;

use super::places::{adopted, normalized, places};
use super::{Change, DoesNotFit, Failure, Layout, LayoutRecord, Stage, User};
use crate::inventory::Device;
use crate::{Condition, Features, Inventory, Ledger, PreparedDevice, Record, Scope, Slot};

/// What is wanted of a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Wanted<'a> {
    /// It is not known: there is no NodeLayout, or it was not read yet. What is in force stays so.
    Unknown,
    /// Nothing is said of it: it is to be offered as the agent was told at its start.
    AsTold,
    /// This.
    This(&'a DesiredDevice),
}

/// What follows from what.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The name of the driver.
    pub driver: &'a str,
    /// The boot of the node.
    pub boot_id: &'a str,
    /// What the node has.
    pub inventory: &'a Inventory,
    /// The device.
    pub device: &'a Device,
    /// Who has what.
    pub ledger: &'a Ledger,
    /// What was kept of its layout.
    pub record: Option<&'a LayoutRecord>,
    /// What is wanted.
    pub wanted: Wanted<'a>,
    /// Seconds since the node's boot.
    pub now: u64,
    /// Whether it has been published for long enough that nobody new gets it: whoever was given it before is known by now.
    pub is_closed: bool,
    /// What the API server keeps of what is published.
    pub features: Features,
    /// Why its partitions could not be put right at the last try, and when to try again, in seconds since the boot.
    pub trouble: Option<(&'a str, u64)>,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Nothing for now.
    Rest,
    /// This record is to be kept, and nothing done to the hardware.
    Keep(Box<LayoutRecord>),
    /// This record is to be kept, and the hardware made what it says: its goal.
    Go(Box<LayoutRecord>),
}

/// What is to be done next, and how far a device is.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What is to be done.
    pub next: Next,
    /// How far it is.
    pub state: DeviceState,
    /// Who is waited for, or what failed and what to do.
    pub message: String,
    /// How many claims and pods have it or a part of it.
    pub users: u32,
    /// The attempt that the state is of.
    pub attempt: u32,
    /// When something is to be done though nothing changes, in seconds since the boot.
    pub again_at: Option<u64>,
}

/// What is to be done next, and how far the device is.
///
/// Nobody who has the device, or may have been given it, loses it: it is closed to others first, then waited for. What is
/// wanted by now counts at each step, but for what is done to the hardware: that is ended, or undone, first.
pub fn next_step(situation: &Situation<'_>) -> Step {
    let record = situation.record();
    let users = User::all(situation.device, situation.ledger, &record);
    let desired = situation.desired(&record);
    let (next, state, message, again_at) = decide(situation, record, &users, &desired);
    let workloads = users.iter().filter(|user| user.is_workload()).count();
    let users = u32::try_from(workloads).unwrap_or(u32::MAX);
    Step { next, state, message, users, attempt: desired.attempt, again_at }
}

type Decision = (Next, DeviceState, String, Option<u64>);

fn decide(situation: &Situation<'_>, record: LayoutRecord, users: &[User], desired: &DesiredDevice) -> Decision {
    let rest = |state, message| (Next::Rest, state, message, None);
    if record.change.as_ref().is_some_and(|change| change.stage == Stage::Changing) {
        return on_its_way(situation, record, desired);
    }
    if let Some(Failure { message, desired: tried }) = &record.failure
        && tried == desired
    {
        let message = message.clone();
        return mended(situation, record).unwrap_or_else(|| rest(DeviceState::Failed, message));
    }
    if is_same(&record.layout, desired, &situation.device.accelerator) {
        let tidy = tidied(&record, desired);
        if tidy != record {
            return (Next::Keep(Box::new(tidy)), DeviceState::Ready, String::new(), None);
        }
        if let Condition::Lost { cause } = &situation.device.condition {
            let state = if desired.layout.is_some() { DeviceState::Failed } else { DeviceState::Ready };
            return rest(state, situation.lost(cause));
        }
        if let Some(domain) =
            record.layout.domain().filter(|_| situation.device.accelerator.spanning_domain().is_none())
        {
            return rest(DeviceState::Failed, situation.left(domain));
        }
        return mended(situation, record).unwrap_or_else(|| rest(DeviceState::Ready, String::new()));
    }
    let open = |record: LayoutRecord| Box::new(LayoutRecord { change: None, ..record });
    let layout = match resolved(desired, &situation.device.accelerator) {
        Ok(layout) => layout,
        Err(cause) => {
            let message = situation.cannot(desired, &cause);
            if record.change.is_some() {
                return (Next::Keep(open(record)), DeviceState::Failed, message, None);
            }
            return mended(situation, record).unwrap_or_else(|| rest(DeviceState::Failed, message));
        }
    };
    if let Condition::Lost { cause } = &situation.device.condition {
        return rest(DeviceState::Failed, situation.lost(cause));
    }
    if let Some(slots) = adoptable(&record, &layout, situation.device) {
        let Layout::Partitions { mix, .. } = layout else { return rest(DeviceState::Ready, String::new()) };
        let layout = Layout::Partitions { mix, slots };
        let adopted = LayoutRecord { layout, policy: desired.policy.clone(), failure: None, ..*open(record) };
        return (Next::Keep(Box::new(adopted)), DeviceState::Ready, String::new(), None);
    }
    if is_had_so(situation, users, &layout) || is_wider(&record, &layout, situation, users) {
        let policy = if layout == Layout::AsTold { String::new() } else { desired.policy.clone() };
        let wider = LayoutRecord { layout, policy, failure: None, ..*open(record) };
        return (Next::Keep(Box::new(wider)), DeviceState::Ready, String::new(), None);
    }
    drained(situation, record, users, desired, layout)
}

/// Work on the hardware was begun: it is ended, or what was before is restored. Where not even that could be done, what is
/// wanted by now may help.
fn on_its_way(situation: &Situation<'_>, mut record: LayoutRecord, desired: &DesiredDevice) -> Decision {
    let Some(change) = &mut record.change else { return (Next::Rest, DeviceState::Ready, String::new(), None) };
    let failed = change.failed.clone();
    if let Condition::Lost { cause } = &situation.device.condition {
        return (Next::Rest, DeviceState::Failed, situation.lost(cause), None);
    }
    if failed.is_some()
        && change.desired != *desired
        && !is_same(&record.layout, desired, &situation.device.accelerator)
        && let Ok(layout) = resolved(desired, &situation.device.accelerator)
    {
        change.touched.extend(layout.slots());
        (change.desired, change.layout, change.failed) = (desired.clone(), layout, None);
        return (Next::Go(Box::new(record)), DeviceState::Changing, String::new(), None);
    }
    match (failed, situation.trouble) {
        (Some(failed), Some((trouble, again_at))) if situation.now < again_at => {
            let message = format!("{failed}; what was before cannot be restored either, and is tried again: {trouble}");
            (Next::Rest, DeviceState::Failed, message, Some(again_at))
        }
        (failed, _) => {
            let message = failed.map(|failed| format!("{failed}; what was before is being restored"));
            (Next::Go(Box::new(record)), DeviceState::Changing, message.unwrap_or_default(), None)
        }
    }
}

/// A partition of the layout that somebody destroyed, or that went with its driver, is made again; whoever has others keeps
/// them.
fn mended(situation: &Situation<'_>, record: LayoutRecord) -> Option<Decision> {
    if situation.device.condition != Condition::Ready || !is_missing_any(&record, &situation.device.accelerator) {
        return None;
    }
    Some(match situation.trouble {
        Some((trouble, again_at)) if situation.now < again_at => {
            let device = &record.device;
            let message = format!("{device}: a partition of its layout is not there; this is tried again: {trouble}");
            (Next::Rest, DeviceState::Failed, message, Some(again_at))
        }
        _ => (Next::Go(Box::new(record)), DeviceState::Changing, "a partition is made again".to_owned(), None),
    })
}

fn is_missing_any(record: &LayoutRecord, accelerator: &Accelerator) -> bool {
    let there = accelerator.partitioning.iter().flat_map(|partitioning| &partitioning.partitions);
    let there: Vec<_> = there.map(|one| Slot { placement: one.placement, shape: one.shape }).collect();
    record.layout.slots().iter().any(|slot| !there.contains(slot))
}

/// The device is closed to others, and whoever has it is waited for.
fn drained(
    situation: &Situation<'_>,
    mut record: LayoutRecord,
    users: &[User],
    desired: &DesiredDevice,
    layout: Layout,
) -> Decision {
    let now = situation.now;
    let known = record.change.as_ref().filter(|change| change.desired == *desired && change.layout == layout);
    let Some(known) = known.cloned() else {
        // Who wants something else by now does not begin anew: the device is closed already.
        let since = record.change.as_ref().map_or(now, |change| change.since);
        let (desired, touched) = (desired.clone(), Vec::new());
        let change = Change { desired, layout, since, stage: Stage::Draining, failed: None, touched };
        (record.change, record.failure) = (Some(change), None);
        return (Next::Keep(Box::new(record)), DeviceState::Draining, waiting(users), None);
    };
    let deadline = known.since.saturating_add(desired.drain.deadline_seconds.into());
    // Who has all of a device keeps it where the device is only not to be cut any more.
    let is_only_joined = is_for_one(&record.layout) && matches!(known.layout, Layout::AsTold | Layout::Whole);
    let has_other = users.iter().any(|user| !user.has_the_whole());
    let waited_for = if is_only_joined && !has_other { &[] } else { users };
    if waited_for.is_empty() {
        if !situation.is_closed {
            return (Next::Rest, DeviceState::Draining, waiting(waited_for), None);
        }
        if !users.is_empty() {
            let policy = if known.layout == Layout::AsTold { String::new() } else { desired.policy.clone() };
            let kept = LayoutRecord { layout: known.layout, policy, change: None, failure: None, ..record };
            return (Next::Keep(Box::new(kept)), DeviceState::Ready, String::new(), None);
        }
        let touched = record.layout.slots().iter().chain(known.layout.slots()).copied().collect();
        record.change = Some(Change { stage: Stage::Changing, touched, ..known });
        return (Next::Go(Box::new(record)), DeviceState::Changing, String::new(), None);
    }
    match (desired.drain.after_deadline, known.stage) {
        _ if now < deadline => (Next::Rest, DeviceState::Draining, waiting(users), Some(deadline)),
        (Deadline::GiveUp, _) => {
            let seconds = desired.drain.deadline_seconds;
            let message = format!(
                "{}: not made {} by policy {}, given up after {seconds} s: {}; end who has it and count the policy's \
                 attempt up, or let it evict",
                record.device,
                layout,
                desired.policy,
                waiting(users)
            );
            record.change = None;
            record.failure = Some(Failure { desired: desired.clone(), message: message.clone() });
            (Next::Keep(Box::new(record)), DeviceState::Failed, message, None)
        }
        (Deadline::Evict, Stage::Evicting) if !situation.features.device_taints => {
            let cause = "nobody evicts its pods, since the API server keeps no taints of devices (feature gate DRADeviceTaints)";
            (Next::Rest, DeviceState::Draining, format!("{cause}; delete them; {}", waiting(users)), None)
        }
        (Deadline::Evict, Stage::Evicting) => {
            let by_count = users.iter().any(|user| matches!(user, User::Pods { .. }));
            let advice = if by_count { "; pods that have it without a claim are not evicted, delete them" } else { "" };
            let message = format!("its pods are being evicted, {}{advice}", waiting(users));
            (Next::Rest, DeviceState::Draining, message, None)
        }
        (Deadline::Evict, _) => {
            record.change = Some(Change { stage: Stage::Evicting, ..known });
            (Next::Keep(Box::new(record)), DeviceState::Draining, waiting(users), None)
        }
    }
}

fn waiting(users: &[User]) -> String {
    match users {
        [] => "nobody has it; waiting until everybody knows that it is not to be had".to_owned(),
        [user] => format!("waiting for {user}"),
        [user, rest @ ..] => format!("waiting for {user} and {} more", rest.len()),
    }
}

/// Whether a device is offered as is desired, however that is written.
fn is_same(layout: &Layout, desired: &DesiredDevice, accelerator: &Accelerator) -> bool {
    match (layout, &desired.layout) {
        // One that is carried to another domain is laid out anew; one whose fabric says nothing for now stays what it is.
        (Layout::Domain { name }, Some(said)) => {
            said.domain.is_some() && accelerator.spanning_domain().is_none_or(|domain| domain.name.0 == *name)
        }
        (Layout::Partitions { mix, .. }, Some(said)) => {
            said.partitions.as_ref().is_some_and(|wanted| normalized(wanted) == normalized(mix))
        }
        (layout, said) => layout.said() == *said,
    }
}

/// The record of a device that is offered as is desired: as it is desired by now.
fn tidied(record: &LayoutRecord, desired: &DesiredDevice) -> LayoutRecord {
    let said = desired.layout.as_ref().and_then(|said| said.partitions.clone());
    let layout = match (record.layout.clone(), said) {
        (Layout::Partitions { slots, .. }, Some(mix)) => Layout::Partitions { mix, slots },
        (layout, _) => layout,
    };
    let policy = if layout == Layout::AsTold { String::new() } else { desired.policy.clone() };
    LayoutRecord { layout, policy, change: None, failure: None, ..record.clone() }
}

/// The layout that is desired, on this accelerator.
fn resolved(desired: &DesiredDevice, accelerator: &Accelerator) -> Result<Layout, String> {
    let Some(said) = &desired.layout else { return Ok(Layout::AsTold) };
    said.validate()?;
    let uncut = "it has no partitions before its mode is switched by a reset; do that while nobody uses it";
    let partitioning = accelerator.partitioning.as_ref();
    let may_be_cut = || {
        let partitioning = partitioning.ok_or_else(|| DoesNotFit::NotCuttable.to_string())?;
        if partitioning.cut || partitioning.switchable { Ok(partitioning) } else { Err(uncut.to_owned()) }
    };
    if !accelerator.has_driver_facts() {
        return Err("user space has it, and nothing else is known of it; give it back to its driver".to_owned());
    }
    if let Some(mix) = &said.partitions {
        let slots = places(may_be_cut()?, mix).map_err(|error| error.to_string())?;
        return Ok(Layout::Partitions { mix: mix.clone(), slots });
    }
    if said.dynamic.is_some() {
        return may_be_cut().map(|_| Layout::Dynamic);
    }
    if partitioning.is_some_and(|own| own.cut && !own.switchable) {
        return Err("it is in the mode in which it has partitions, which a reset switches off; do that".to_owned());
    }
    if said.domain.is_some() {
        let ends = "it lies in no fabric domain that spans nodes, as far as its driver and the agent's settings tell; see who \
                    manages its fabric, or choose another layout";
        let domain = accelerator.spanning_domain().ok_or(ends)?;
        return Ok(Layout::Domain { name: domain.name.0 });
    }
    Ok(said.shares.map_or(Layout::Whole, |shares| Layout::Shares { count: shares.count }))
}

/// What somebody made by hand, where it is just what is wanted: also what an agent made whose record was lost.
fn adoptable(record: &LayoutRecord, layout: &Layout, device: &Device) -> Option<Vec<Slot>> {
    let Layout::Partitions { mix, .. } = layout else { return None };
    if !record.layout.slots().is_empty() || matches!(record.layout, Layout::Dynamic) {
        return None;
    }
    adopted(device.accelerator.partitioning.as_ref()?, mix)
}

/// Whether whoever has the device was given it with the domain that it is to be offered with: an agent that could not read the
/// layout, or knew no such, came between.
fn is_had_so(situation: &Situation<'_>, users: &[User], layout: &Layout) -> bool {
    let Some(domain) = layout.domain().map(DeviceName::domain) else { return false };
    let name = situation.device.name();
    let held = situation.ledger.records().flat_map(Record::holds);
    let mut held = held.filter(|held| held.uses().iter().any(|used| used.accelerator == *name));
    let is_with_domain = |held: &PreparedDevice| held.scope == Scope::Domain && held.device == domain;
    let is_claims_alone = users.iter().all(|user| matches!(user, User::Claim { .. }));
    !users.is_empty() && is_claims_alone && held.all(is_with_domain)
}

/// Whether who has all of a device has it by itself and for itself, and is published so by any of these layouts.
fn is_for_one(layout: &Layout) -> bool {
    matches!(layout, Layout::AsTold | Layout::Whole | Layout::Dynamic)
}

/// Whether all that could be had of a device can be had by another layout too, and nothing is to be done to it.
fn is_wider(record: &LayoutRecord, layout: &Layout, situation: &Situation<'_>, users: &[User]) -> bool {
    let told = situation.inventory.offering();
    let loses = record.layout.offering(told).partitions && !layout.offering(told).partitions;
    let cut = situation.device.accelerator.partitioning.as_ref().is_some_and(|own| own.cut);
    let by_hand = users.iter().any(|user| matches!(user, User::ByHand(_)));
    let in_one_piece = match layout {
        Layout::AsTold => true,
        Layout::Dynamic => !by_hand,
        Layout::Whole => !by_hand && !cut,
        Layout::Partitions { .. } | Layout::Shares { .. } | Layout::Domain { .. } => false,
    };
    in_one_piece && is_for_one(&record.layout) && !loses
}

impl Situation<'_> {
    fn record(&self) -> LayoutRecord {
        self.record.cloned().unwrap_or_else(|| LayoutRecord::new(self.boot_id, &self.device.accelerator))
    }

    fn desired(&self, record: &LayoutRecord) -> DesiredDevice {
        let of = |policy: &str, layout| DesiredDevice {
            id: DeviceId { driver: self.driver.to_owned(), name: record.device.to_string() },
            policy: policy.to_owned(),
            layout,
            drain: Drain::default(),
            attempt: 0,
        };
        match self.wanted {
            Wanted::This(desired) => desired.clone(),
            Wanted::AsTold => of(&record.policy, None),
            Wanted::Unknown => {
                let begun = record.change.as_ref().map(|change| &change.desired);
                let tried = record.failure.as_ref().map(|failure| &failure.desired);
                begun.or(tried).cloned().unwrap_or_else(|| of(&record.policy, record.layout.said()))
            }
        }
    }

    fn cannot(&self, desired: &DesiredDevice, cause: &str) -> String {
        let device = self.device.accelerator.name();
        format!("{device}: policy {} cannot have its layout: {cause}", desired.policy)
    }

    fn left(&self, domain: &str) -> String {
        let device = self.device.accelerator.name();
        format!(
            "{device}: it is no member of fabric domain {domain} any more; see who manages its fabric; it goes on by itself once \
             it is one again"
        )
    }

    fn lost(&self, cause: &str) -> String {
        let device = self.device.accelerator.name();
        format!(
            "{device}: it is lost: {cause}; it goes on by itself once the device answers; reset it or reboot the node"
        )
    }
}

#[cfg(test)]
mod tests;
