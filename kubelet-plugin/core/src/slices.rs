use std::cmp::Reverse;
use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::{
    CapacityRequestPolicy, CapacityRequestPolicyRange, CounterSet, Device as ApiDevice, DeviceAttribute,
    DeviceCapacity, DeviceCounterConsumption, DeviceTaint, ResourcePool, ResourceSlice, ResourceSliceSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tessera_driver::AttributeValue;
use tessera_vocabulary::capacities::SHARES;
use tessera_vocabulary::{DeviceName, attribute_text, taint_value, taints};

use crate::counters::Counters;
use crate::offers::{Offer, What};
use crate::{
    Condition, Device, Inventory, Ledger, Offering, Pool, PreparedDevice, Published, Repartitioning, Stage, Use,
    format_quantity,
};

/// The API takes 128 devices in a slice, but only 64 as soon as one of them has a taint, and a fault can come any time.
const DEVICES_PER_SLICE: usize = 64;

/// The API takes at most 8 counter sets in a slice.
const SETS_PER_SLICE: usize = 8;

/// What the API server keeps of a slice. A server drops the fields of a feature that is off, without a word; what it
/// kept is seen by comparing its answer with what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Taints on devices (on by default since Kubernetes 1.36).
    pub device_taints: bool,
    /// Counters that devices share (on by default since Kubernetes 1.36; in this form since 1.35).
    pub shared_counters: bool,
    /// Devices that several claims may have (on by default since Kubernetes 1.36).
    pub shares: bool,
}

impl Default for Features {
    /// All of them, until a server shows otherwise.
    fn default() -> Self {
        Self { device_taints: true, shared_counters: true, shares: true }
    }
}

/// The slices of a pool, in the order of their names: those with counters first, since a device may only name what is
/// there. There is always one: a slice without devices says that the driver is alive and has nothing. The generation of
/// the pool is left at 0; `reconcile` sets it. Each is made when it is asked for, since a device takes some twelve KiB.
///
/// A lost device carries a taint, and so does one that pods have without a claim; where the server drops taints, it is
/// withheld instead, unless a claim holds it: an allocated device must not vanish, and nobody else can be given it. A device
/// that a claim holds and that was not seen since the agent started is lost too; the ledger knows how it was published.
///
/// Where the server drops counters, nothing is offered that only they tell apart: of each accelerator the whole, or the
/// partitions that are there. Where it drops what is said of shares, one claim at a time gets the device: it is published as
/// a whole then.
pub struct Slices<'a> {
    pool: &'a Pool,
    inventory: &'a Inventory,
    features: Features,
    ledger: &'a Ledger,
    counters: Option<Counters<'a>>,
    sets: Vec<CounterSet>,
    /// What is offered of what is there.
    offered: Vec<Offer<'a>>,
    /// What claims hold, as it was published.
    published: BTreeMap<&'a DeviceName, (&'a PreparedDevice, &'a Published)>,
    /// What claims hold and was not seen since the agent started, with the counters that it takes.
    unseen: Vec<(&'a PreparedDevice, &'a Published, Option<Vec<DeviceCounterConsumption>>)>,
}

impl<'a> Slices<'a> {
    /// Those of what a node has, for a server that keeps these features.
    pub fn new(pool: &'a Pool, inventory: &'a Inventory, features: Features, ledger: &'a Ledger) -> Self {
        let counters = inventory
            .needs_counters()
            .then(|| Counters::new(inventory.devices().iter().map(|device| &device.accelerator)))
            .filter(|_| features.shared_counters);
        let published = ledger.held_as_published();
        let unseen: Vec<_> =
            published.values().filter(|(held, _)| inventory.offer(&held.device).is_none()).copied().collect();
        let taken = counters.as_ref().map(|counters| counters.of_unseen(unseen.iter().map(|(held, _)| *held)));
        let mut taken = taken.into_iter().flatten();
        let unseen = unseen.into_iter().map(|(held, published)| {
            let taken = taken.next().filter(|taken| !taken.is_empty());
            (held, published, taken)
        });
        Self {
            pool,
            inventory,
            features,
            ledger,
            sets: counters.as_ref().map(Counters::sets).unwrap_or_default(),
            offered: offered(inventory, features, ledger),
            unseen: unseen.collect(),
            published,
            counters,
        }
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        (self.of_sets() + self.devices().div_ceil(DEVICES_PER_SLICE)).max(1)
    }

    /// What one is called.
    pub fn name(&self, index: usize) -> String {
        self.pool.slice_name(index)
    }

    /// All of them, one after the other.
    pub fn iter(&self) -> impl Iterator<Item = ResourceSlice> {
        (0..self.len()).map(|index| self.slice(index))
    }

    /// One of them.
    pub fn slice(&self, index: usize) -> ResourceSlice {
        let sets = self.sets.chunks(SETS_PER_SLICE).nth(index);
        let devices = index.checked_sub(self.of_sets()).map(|chunk| {
            let begin = chunk * DEVICES_PER_SLICE;
            (begin..self.devices().min(begin + DEVICES_PER_SLICE)).map(|at| self.device(at)).collect()
        });
        ResourceSlice {
            metadata: ObjectMeta {
                name: Some(self.name(index)),
                owner_references: Some(vec![self.pool.owner()]),
                ..ObjectMeta::default()
            },
            spec: ResourceSliceSpec {
                driver: self.pool.driver.to_string(),
                node_name: Some(self.pool.node.name.clone()),
                pool: ResourcePool {
                    name: self.pool.name(),
                    generation: 0,
                    resource_slice_count: i64::try_from(self.len()).unwrap_or(i64::MAX),
                },
                devices: devices.filter(|devices: &Vec<_>| !devices.is_empty()),
                shared_counters: sets.map(<[_]>::to_vec),
                ..ResourceSliceSpec::default()
            },
        }
    }

    /// How many slices have counters.
    fn of_sets(&self) -> usize {
        self.sets.len().div_ceil(SETS_PER_SLICE)
    }

    /// How many devices there are.
    fn devices(&self) -> usize {
        self.offered.len() + self.unseen.len()
    }

    fn device(&self, at: usize) -> ApiDevice {
        let Self { inventory, ledger, .. } = *self;
        let Some(offer) = self.offered.get(at) else {
            let (held, published, taken) = &self.unseen[at - self.offered.len()];
            // A group whose members are grouped otherwise by now is as good as it was.
            let uses = held.uses();
            let marks = Marks { lost: inventory.check(held).is_err(), lent: false, change: inventory.change(&uses) };
            // What nobody here can read is at least there.
            let named = || ApiDevice { name: held.device.to_string(), ..ApiDevice::default() };
            let before = published.device().unwrap_or_else(named);
            return marked(ApiDevice { consumes_counters: taken.clone(), ..before }, marks, self.features);
        };
        // Of what user space has, an agent that has just started sees no more than the bus tells.
        let before = self.published.get(&offer.name()).filter(|_| !offer.accelerator().has_driver_facts());
        let described = before.and_then(|(_, before)| before.device());
        let described = described.unwrap_or_else(|| api_device(offer, inventory, ledger));
        // Of what several may have nothing else is offered, so there is nothing to tell it from.
        let counted = self.counters.as_ref().filter(|_| offer.shares().is_none());
        let consumes_counters = counted.map(|counters| counters.consumption(offer));
        let lost = *offer.condition() != Condition::Ready;
        let uses = offer.uses();
        let marks = Marks { lost, lent: ledger.lent(&uses, None).is_some(), change: inventory.change(&uses) };
        marked(ApiDevice { consumes_counters, ..described }, marks, self.features)
    }
}

/// The same, all at once.
pub fn slices(pool: &Pool, inventory: &Inventory, features: Features, ledger: &Ledger) -> Vec<ResourceSlice> {
    Slices::new(pool, inventory, features, ledger).iter().collect()
}

/// What can be allocated, in the order in which the scheduler should take it: partitions before whole accelerators, and
/// where there are partitions on demand the wholes from the other end, so that the two meet as late as possible. Groups come last, in the order of the topology.
fn offered<'a>(inventory: &'a Inventory, features: Features, ledger: &Ledger) -> Vec<Offer<'a>> {
    let held = ledger.held();
    let lost = |offer: &Offer<'_>| *offer.condition() != Condition::Ready;
    let available = |offer: &Offer<'_>| {
        let of_all = |is_offered: fn(Offering) -> bool| {
            offer.devices.iter().all(|device| is_offered(device.offering(features.shared_counters)))
        };
        let told_apart = match offer.what {
            What::Whole => true,
            What::Partition { .. } => of_all(|one| one.partitions) || offer.made_by_hand(ledger).is_some(),
            What::Passthrough(_) => of_all(|one| one.passthrough),
            What::Group(_) => of_all(|one| one.groups),
            What::Domain(_) => false,
        };
        let marked = || {
            let uses = offer.uses();
            lost(offer) || ledger.lent(&uses, None).is_some() || inventory.change(&uses).is_some()
        };
        offer.obstacle(features.shared_counters, ledger).is_none()
            && told_apart
            && (features.device_taints || !marked())
    };
    let withheld = |offer: &Offer<'_>| offer.devices.iter().any(|device| inventory.withholds(device));
    let published = |offer: &Offer<'_>| held.contains(&offer.name()) || (!withheld(offer) && available(offer));
    let offered: Vec<_> = inventory.offers().filter(published).collect();
    let is_part = |offer: &Offer<'_>| matches!(offer.what, What::Partition { .. });
    let (partitions, rest): (Vec<_>, Vec<_>) = offered.into_iter().partition(is_part);
    // Where nothing can be cut they meet groups instead, which begin at the other end themselves.
    let on_demand = |device: &Device| device.offering(features.shared_counters).partitions;
    let meet_partitions = inventory.devices().iter().any(on_demand) && !partitions.is_empty();
    let is_group = |offer: &Offer<'_>| matches!(offer.what, What::Group(_));
    let (groups, mut wholes): (Vec<_>, Vec<_>) = rest.into_iter().partition(is_group);
    if meet_partitions {
        // Of each, the whole stays before the passthrough: who asks for neither by its kind wants one with its driver.
        wholes.sort_by_key(|offer| Reverse(offer.accelerator().address));
    }
    partitions.into_iter().chain(wholes).chain(groups).collect()
}

impl Inventory {
    /// What can be used, as it is published, as text.
    pub(crate) fn published(&self, offer: &Offer<'_>, ledger: &Ledger) -> Published {
        let make = || Published::new(&api_device(offer, self, ledger));
        match (&offer.what, &offer.devices[..]) {
            (What::Whole, [device]) => device.published.get(make),
            _ => make(),
        }
    }
}

/// A device that can be used, as it is published, but for its counters: those of a device that is not seen any more must
/// not name what is gone.
pub(crate) fn api_device(offer: &Offer<'_>, inventory: &Inventory, ledger: &Ledger) -> ApiDevice {
    let accelerator = offer.accelerator();
    let (mut attributes, capacities) = match offer.what {
        What::Group(group) => (group.attributes().clone(), group.capacities().clone()),
        // Of a domain the cluster says what it is, by what all nodes say of their wholes.
        What::Whole | What::Domain(_) => (accelerator.attributes(), accelerator.capacities()),
        What::Passthrough(facts) => (accelerator.passthrough_attributes(facts), accelerator.passthrough_capacities()),
        What::Partition { shape, .. } => (
            accelerator.partition_attributes(shape, offer.made_by_hand(ledger)),
            accelerator.partition_capacities(shape),
        ),
    };
    // A group says itself where it lies, and of what user space has nobody may know.
    let says = matches!(offer.what, What::Whole | What::Partition { .. });
    if let Some(place) = inventory.place(accelerator).filter(|_| says) {
        attributes.extend(place.attributes());
    }
    let attributes = attributes.into_iter().map(|(name, value)| (name.to_owned(), attribute(value)));
    let capacities = capacities.into_iter().map(|(name, value)| (name.to_owned(), capacity(value)));
    let device = ApiDevice {
        name: offer.name().to_string(),
        attributes: Some(attributes.collect()),
        capacity: Some(capacities.collect()),
        ..ApiDevice::default()
    };
    match offer.shares() {
        Some(count) => in_shares(device, count),
        None => device,
    }
}

/// The same for several claims at a time. Once several may have a device, all of a capacity that a claim says nothing about
/// is taken, unless a policy says otherwise: a claim takes one share, and as much of the rest as it asks for, which nobody
/// holds it to while pods take turns.
fn in_shares(device: ApiDevice, count: u32) -> ApiDevice {
    let policy = |least: u32, step: Option<u32>| {
        let least = format_quantity(least.into());
        let range = CapacityRequestPolicyRange {
            min: least.clone(),
            max: None,
            step: step.map(|step| format_quantity(step.into())),
        };
        Some(CapacityRequestPolicy { default: Some(least), valid_range: Some(range), valid_values: None })
    };
    let shares = DeviceCapacity { value: format_quantity(count.into()), request_policy: policy(1, Some(1)) };
    let rest = device.capacity.into_iter().flatten();
    let rest = rest.map(|(name, capacity)| (name, DeviceCapacity { request_policy: policy(0, None), ..capacity }));
    let capacity = rest.chain([(SHARES.to_owned(), shares)]).collect();
    ApiDevice { allow_multiple_allocations: Some(true), capacity: Some(capacity), ..device }
}

/// The same for one claim at a time.
fn as_one(mut device: ApiDevice) -> ApiDevice {
    if device.allow_multiple_allocations.take().is_some() {
        let capacity = device.capacity.iter_mut();
        capacity.for_each(|capacity| {
            capacity.remove(SHARES);
            capacity.values_mut().for_each(|capacity| capacity.request_policy = None);
        });
    }
    device
}

/// Why new pods should keep off a device.
#[derive(Clone, Copy)]
struct Marks<'a> {
    /// It does not answer.
    lost: bool,
    /// Pods have it without a claim.
    lent: bool,
    /// It is to be offered as something else.
    change: Option<&'a Repartitioning>,
}

/// The same with its taints.
fn marked(device: ApiDevice, marks: Marks<'_>, features: Features) -> ApiDevice {
    let keys = [(marks.lost, taints::LOST), (marks.lent, taints::LENT)];
    let keys = keys.into_iter().filter(|(is_so, _)| *is_so).map(|(_, key)| taint(key));
    let taints: Vec<_> = keys.chain(marks.change.map(repartitioning)).collect();
    let device = if features.shares { device } else { as_one(device) };
    ApiDevice { taints: (!taints.is_empty() && features.device_taints).then_some(taints), ..device }
}

fn attribute(value: AttributeValue) -> DeviceAttribute {
    let none = DeviceAttribute::default();
    match value {
        AttributeValue::Bool(value) => DeviceAttribute { bool: Some(value), ..none },
        AttributeValue::Int(value) => DeviceAttribute { int: Some(value), ..none },
        AttributeValue::String(value) => DeviceAttribute { string: Some(attribute_text(&value).to_owned()), ..none },
        AttributeValue::Version(value) => DeviceAttribute { version: Some(value.to_string()), ..none },
    }
}

fn capacity(value: u64) -> DeviceCapacity {
    DeviceCapacity { value: format_quantity(value), ..DeviceCapacity::default() }
}

/// New pods keep off the device; pods that have it go on: whether they should end is for their owner to say.
fn taint(key: &str) -> DeviceTaint {
    DeviceTaint { key: key.to_owned(), effect: "NoSchedule".to_owned(), ..DeviceTaint::default() }
}

/// Who has it is to end only where the policy says so.
fn repartitioning(change: &Repartitioning) -> DeviceTaint {
    let effect = if change.stage == Stage::Evicting { "NoExecute" } else { "NoSchedule" };
    DeviceTaint { effect: effect.to_owned(), value: taint_value(&change.policy), ..taint(taints::REPARTITIONING) }
}

impl Inventory {
    /// Whether there are offers that only counters tell apart.
    fn needs_counters(&self) -> bool {
        self.devices().iter().any(|device| device.offering(true).needs_counters())
    }

    /// What is done to what is used, to offer it as something else.
    pub(crate) fn change(&self, uses: &[Use]) -> Option<&Repartitioning> {
        uses.iter().find_map(|used| self.layouts().get(&used.accelerator)?.change.as_ref())
    }
}

/// The features that a server lacks, seen by what it stored of what was sent.
pub fn dropped_features(sent: &ResourceSlice, stored: &ResourceSlice, features: Features) -> Features {
    let of_devices = |slice: &ResourceSlice, number: fn(&ApiDevice) -> usize| -> usize {
        slice.spec.devices.iter().flatten().map(number).sum()
    };
    let kept = |number| of_devices(stored, number) >= of_devices(sent, number);
    let sets = |slice: &ResourceSlice| slice.spec.shared_counters.as_ref().map_or(0, Vec::len);
    Features {
        device_taints: features.device_taints && kept(|device| device.taints.as_ref().map_or(0, Vec::len)),
        shared_counters: features.shared_counters
            && sets(stored) >= sets(sent)
            && kept(|device| device.consumes_counters.as_ref().map_or(0, Vec::len)),
        shares: features.shares && kept(|device| device.allow_multiple_allocations.map_or(0, usize::from)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tessera_driver::Work;

    use super::*;
    use crate::testing::{
        allocation, claim_ref, gpu, gpus, gpus_in_shares, granted, identity, ledger, loan, pool, record,
    };
    use crate::{DeviceLayout, Layout};

    fn nobody() -> Ledger {
        Ledger::default()
    }

    fn first() -> Ledger {
        ledger([record("uid-1", 1)])
    }

    #[test]
    fn a_gpu_as_the_scheduler_sees_it() {
        insta::assert_json_snapshot!(slices(&pool(), &gpus(&[0x1b]), Features::default(), &nobody()));
    }

    #[test]
    fn a_gpu_in_shares_is_one_device_that_several_claims_may_have() {
        let shared = gpus_in_shares(&[0x1b], 4);
        let all = slices(&pool(), &shared, Features::default(), &nobody());
        let device = all[0].spec.devices.as_ref().unwrap()[0].clone();
        assert_eq!(device.allow_multiple_allocations, Some(true));
        insta::assert_json_snapshot!(device.capacity);
        // A server that drops what it says of shares, by its answer, and what it is sent then.
        let mut stored = all[0].clone();
        stored.spec.devices.iter_mut().flatten().for_each(|device| device.allow_multiple_allocations = None);
        let features = dropped_features(&all[0], &stored, Features::default());
        assert_eq!(features, Features { shares: false, ..Features::default() });
        let whole = slices(&pool(), &gpus(&[0x1b]), features, &nobody());
        assert_eq!(slices(&pool(), &shared, features, &nobody()), whole);
        assert_eq!(dropped_features(&whole[0], &whole[0], features), features);
    }

    #[test]
    fn what_a_record_says_of_a_device_follows_what_becomes_of_it() {
        let name = gpu(1).name();
        let undone = Work::Join { accelerator: gpu(1).address, uuid: String::new() };
        let layouts = |count| {
            let layout = DeviceLayout { layout: Layout::Shares { count }, ..DeviceLayout::default() };
            [(name.clone(), layout)].into()
        };
        let changes: [&dyn Fn(Inventory) -> Inventory; 5] = [
            &|inventory| inventory,
            &|inventory| inventory.laid_out(&layouts(4)),
            &|inventory| inventory.laid_out(&layouts(2)),
            &|inventory| inventory.without(&undone),
            &|inventory| inventory.unreachable("gone"),
        ];
        let mut inventory = gpus(&[1, 2]);
        let mut told = BTreeSet::new();
        for change in changes {
            inventory = change(inventory);
            let offer = inventory.offer(&name).unwrap();
            let expected = Published::new(&api_device(&offer, &inventory, &nobody()));
            for _ in 0..2 {
                assert_eq!(inventory.published(&offer, &nobody()), expected);
            }
            assert_eq!(expected.device(), Some(api_device(&offer, &inventory, &nobody())));
            told.insert(serde_json::to_string(&expected).unwrap());
        }
        assert_eq!(told.len(), 3, "{told:#?}");
    }

    #[test]
    fn a_node_without_devices_still_says_that_its_driver_lives() {
        let slices = slices(&pool(), &Inventory::default(), Features::default(), &nobody());
        assert_eq!(slices.len(), 1);
        // Not an empty list: the API refuses that beside shared counters, and stores it as absent.
        assert_eq!(slices[0].spec.devices, None);
    }

    #[test]
    fn many_devices_are_spread_over_slices_in_order() {
        let buses: Vec<u8> = (0..150).collect();
        let slices = slices(&pool(), &gpus(&buses), Features::default(), &nobody());
        let sizes: Vec<_> = slices.iter().map(|slice| slice.spec.devices.as_ref().map_or(0, Vec::len)).collect();
        assert_eq!(sizes, [64, 64, 22]);
        let names: Vec<_> = slices.iter().filter_map(|slice| slice.metadata.name.clone()).collect();
        assert!(names.is_sorted(), "{names:?}");
        assert!(slices.iter().all(|slice| slice.spec.pool.resource_slice_count == 3));
    }

    #[test]
    fn a_lost_device_is_tainted_or_withheld() {
        let lost = gpus(&[1, 2]).unreachable("gone");
        let names_and_taints = |features, inventory: &Inventory, ledger: Ledger| -> Vec<(String, bool)> {
            let slices = slices(&pool(), inventory, features, &ledger);
            let devices = slices[0].spec.devices.iter().flatten();
            devices.map(|device| (device.name.clone(), device.taints.is_some())).collect()
        };
        let one = "gpu-0000-01-00-0".to_owned();
        let two = "gpu-0000-02-00-0".to_owned();
        assert_eq!(names_and_taints(Features::default(), &lost, nobody()), [(one.clone(), true), (two.clone(), true)]);
        let without = Features { device_taints: false, ..Features::default() };
        assert_eq!(names_and_taints(without, &lost, nobody()), []);
        assert_eq!(names_and_taints(without, &lost, first()), [(one.clone(), false)], "a claim holds it");

        // An agent that starts while it is lost has never seen it.
        let other = gpus(&[2]);
        assert_eq!(names_and_taints(Features::default(), &other, first()), [(two.clone(), false), (one.clone(), true)]);
        assert_eq!(names_and_taints(without, &other, first()), [(two.clone(), false), (one, false)]);
        assert_eq!(names_and_taints(Features::default(), &other, nobody()), [(two, false)]);
    }

    #[test]
    fn of_what_another_api_offers_only_what_claims_hold_is_published() {
        let offering = Offering { groups: true, ..Offering::NOTHING };
        let found = tessera_driver::Discovery { accelerators: vec![gpu(1), gpu(2)], ..Default::default() };
        let inventory = Inventory::new(offering).after(&found, &Default::default());
        for (what, withheld, ledger, expected) in [
            ("all", &[1, 2][..], nobody(), ""),
            ("all, of which a claim holds one", &[1, 2], first(), "gpu-0000-01-00-0"),
            ("one, and so the group with it", &[1], nobody(), "gpu-0000-02-00-0"),
            ("the other, of which none is held", &[2], first(), "gpu-0000-01-00-0"),
        ] {
            let inventory = inventory.clone().withholding(|one| withheld.contains(&one.address.bus));
            let slices = slices(&pool(), &inventory, Features::default(), &ledger);
            let devices = slices.iter().flat_map(|slice| slice.spec.devices.iter().flatten());
            assert_eq!(devices.map(|device| device.name.as_str()).collect::<Vec<_>>().join(" "), expected, "{what}");
        }
    }

    #[test]
    fn what_pods_have_without_a_claim_is_tainted_or_withheld() {
        let mut ledger = nobody();
        ledger.lend(loan(1));
        let offering = Offering { groups: true, ..Offering::NOTHING };
        let found = tessera_driver::Discovery { accelerators: vec![gpu(1), gpu(2)], ..Default::default() };
        let inventory = Inventory::new(offering).after(&found, &Default::default());
        let taints = |features| -> Vec<(String, Vec<String>)> {
            let slices = slices(&pool(), &inventory, features, &ledger);
            let devices = slices.iter().flat_map(|slice| slice.spec.devices.iter().flatten());
            let keys = |device: &ApiDevice| device.taints.iter().flatten().map(|taint| taint.key.clone()).collect();
            devices.map(|device| (device.name.chars().take(16).collect(), keys(device))).collect()
        };
        let device = |name: &str, taints: &[&str]| (name.to_owned(), taints.iter().map(ToString::to_string).collect());
        let (one, two) = (device("gpu-0000-01-00-0", &[taints::LENT]), device("gpu-0000-02-00-0", &[]));
        let both: (String, Vec<String>) = device("group-2-0000-01-", &[taints::LENT]);
        let all = taints(Features::default());
        assert_eq!(all[..2], [one, two.clone()]);
        assert_eq!(all[2].1, both.1, "of which it is a member: {all:?}");
        assert_eq!(taints(Features { device_taints: false, ..Features::default() }), [two]);
    }

    #[test]
    fn what_a_claim_holds_takes_its_counters_also_when_it_is_no_offer_any_more() {
        let offering = Offering { groups: true, ..Offering::NOTHING };
        let node = |buses: &[u8]| {
            let accelerators = buses.iter().map(|bus| gpu(*bus)).collect();
            let found = tessera_driver::Discovery { accelerators, ..Default::default() };
            Inventory::new(offering).after(&found, &Default::default())
        };
        // A claim has both of two; then there is a third, or one of them is not seen by an agent that starts.
        let group =
            node(&[1, 2]).names().map(|(name, _)| name).find(|name| name.as_str().starts_with("group")).unwrap();
        let allocated = crate::Allocation { device: group.clone(), ..allocation("gpu", 1) };
        let edits = |_: crate::Part<'_>| Ok(cdi::ContainerEdits { env: vec!["A=b".to_owned()], ..Default::default() });
        let claim = claim_ref("uid-1");
        let granted = granted(&[allocated]);
        let record = crate::plan(&identity(), &claim, &granted, &node(&[1, 2]), &nobody(), edits).unwrap();
        let ledger = ledger([record]);
        let taken = |buses: &[u8]| -> Vec<String> {
            let slices = slices(&pool(), &node(buses), Features::default(), &ledger);
            let mut devices = slices.iter().flat_map(|slice| slice.spec.devices.iter().flatten());
            let held = devices.find(|device| device.name == group.as_str()).unwrap();
            let sets = held.consumes_counters.iter().flatten();
            sets.flat_map(|set| set.counters.keys().map(|name| format!("{} {name}", set.counter_set))).collect()
        };
        let [one, two] = [1, 2].map(|bus| format!("accelerators-0 {}", gpu(bus).name()));
        assert_eq!(taken(&[1, 2]), [one, two.clone()], "as it is offered");
        assert_eq!(taken(&[2, 3]), [two]);
        assert_eq!(taken(&[3]), [""; 0]);
    }

    #[test]
    fn a_server_without_taints_shows_it() {
        let sent = &slices(&pool(), &gpus(&[1]).unreachable("gone"), Features::default(), &nobody())[0];
        let mut stored = sent.clone();
        assert_eq!(dropped_features(sent, &stored, Features::default()), Features::default());
        for device in stored.spec.devices.iter_mut().flatten() {
            device.taints = None;
        }
        assert!(!dropped_features(sent, &stored, Features::default()).device_taints);
    }

    #[test]
    fn a_long_string_is_cut_where_a_character_ends() {
        let long = format!("{}é", "x".repeat(63));
        assert_eq!(attribute(AttributeValue::String(long)).string, Some("x".repeat(63)));
    }
}
