use std::collections::{BTreeMap, BTreeSet};

use tessera_core::{Loans, State, Unit, UnitKind};
use tessera_driver::Accelerator;
use tessera_vocabulary::{ExtendedResources, PciAddress};

use crate::{Config, DeviceId, MigStrategy, ResourceName, replicas};

/// What an offer is made of, besides what an admin says.
#[derive(Clone, Copy)]
pub struct Basis<'a> {
    /// All units of the node.
    pub units: &'a [Unit<'a>],
    /// What pods have.
    pub loans: &'a Loans,
    /// The resources of which pods have devices, and no other device plugin has healthy ones.
    pub unserved: &'a BTreeSet<String>,
    /// The names of the family's resources.
    pub family: ExtendedResources,
    /// Whether an accelerator, and what it is cut into, is offered by count at all.
    pub by_count: &'a dyn Fn(&Accelerator) -> bool,
}

/// What the kubelet is offered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// The resources by name: those that have devices, and those of which pods have some that nobody else serves.
    pub resources: BTreeMap<ResourceName, Resource>,
    /// What is not offered though it is there, and why; for the log.
    pub problems: Vec<String>,
}

/// An extended resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// Its devices, in the order of PCI addresses and places.
    pub devices: Vec<Offered>,
    /// Whether a container may ask for one only.
    pub one_at_most: bool,
}

/// A device of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// What the kubelet knows it by.
    pub id: DeviceId,
    /// The accelerator that it is, or is a part of.
    pub accelerator: PciAddress,
    /// Whether it is the whole of it.
    pub is_whole: bool,
    /// The NUMA node next to it, if that is known.
    pub numa_node: Option<u32>,
    /// Whether it can be handed out.
    pub state: State,
}

/// What a node has, as the extended resources of a family.
///
/// A unit that a claim has stays in its resource and cannot be handed out: the kubelet then counts it as there and not to
/// be had. An accelerator that somebody has cut is no whole any more, unless partitions are not offered at all.
///
/// A unit that pods got under another name, or one of them for itself, is given to no others under the new one while they
/// run. A resource of which pods have any stays, if without devices, unless another device plugin serves it: the kubelet
/// starts no container again that has devices of a resource that it knows no device plugin of.
pub fn offer(basis: &Basis<'_>, config: &Config) -> Offer {
    let mut offer = by_count(basis, config);
    for (name, resource) in &mut offer.resources {
        for device in &mut resource.devices {
            let Some(loan) = basis.loans.units.get(device.id.unit()).filter(|_| device.is_healthy()) else { continue };
            if loan.resource != name.as_str() || loan.shared != device.id.is_replica() {
                device.state = State::Unusable { cause: format!("pods that asked for {} have it", loan.resource) };
            }
        }
    }
    let domain = basis.family.domain;
    let unserved = basis.loans.units.values().filter(|loan| basis.unserved.contains(&loan.resource));
    for name in unserved.filter_map(|loan| ResourceName::new(domain, &loan.resource).ok()) {
        offer.resources.entry(name).or_default();
    }
    offer
}

/// What there is by count, whoever has it.
fn by_count(basis: &Basis<'_>, config: &Config) -> Offer {
    let mut offer = Offer::default();
    let units: Vec<_> = basis.units.iter().filter(|unit| (basis.by_count)(unit.accelerator)).collect();
    let chosen = match chosen(&units, config.mig_strategy) {
        Ok(chosen) => chosen,
        Err(problem) => return Offer { problems: vec![problem], ..offer },
    };
    let family = basis.family;
    for unit in chosen {
        let (what, name) = match unit.kind {
            UnitKind::Whole => (unit.accelerator.model(), config.whole(unit.accelerator.model(), family)),
            UnitKind::Partition(shape, _) => (shape.name.as_str(), config.partition(&shape.name, family)),
        };
        match (name, unit.shares) {
            (Some(name), Some(count)) => match name.shared() {
                Ok(shared) => offer.resources.entry(shared).or_default().devices.extend(Offered::shares(unit, count)),
                Err(error) => offer.problems.push(error.to_string()),
            },
            (Some(name), None) => offer.resources.entry(name).or_default().devices.push(Offered::of(unit)),
            (None, _) => offer.problems.push(format!("{}: no pattern of the config matches {what}", unit.id)),
        }
    }
    match &config.time_slicing {
        Some(slicing) => replicas::replicate(offer, slicing, &replicas::numbers(basis.units)),
        None => offer,
    }
}

impl Offered {
    fn of(unit: &Unit<'_>) -> Self {
        Self {
            id: DeviceId::of(&unit.id),
            accelerator: unit.accelerator.address,
            is_whole: unit.kind == UnitKind::Whole,
            numa_node: unit.accelerator.locality.numa_node,
            state: unit.state.clone(),
        }
    }

    /// One for each share: a policy that shares a device is about that one alone, so its shares are told from whole devices by
    /// their resource's name.
    fn shares(unit: &Unit<'_>, count: u32) -> impl Iterator<Item = Self> {
        let one = Self::of(unit);
        (0..count).map(move |number| Self { id: DeviceId::replica(one.id.unit(), number), ..one.clone() })
    }

    /// Whether it can be handed out.
    pub fn is_healthy(&self) -> bool {
        self.state == State::Ready
    }
}

/// The units that a strategy offers.
fn chosen<'a, 'b>(units: &[&'b Unit<'a>], strategy: MigStrategy) -> Result<Vec<&'b Unit<'a>>, String> {
    let is_whole = |unit: &&Unit<'_>| unit.kind == UnitKind::Whole;
    let all = || units.iter().copied();
    if strategy == MigStrategy::None {
        return Ok(all().filter(is_whole).collect());
    }
    let cut = cut_by_hand(all());
    let is_cut = |unit: &Unit<'_>| cut.contains(&unit.accelerator.address);
    let offered: Vec<_> = all().filter(|unit| is_whole(unit) != is_cut(unit)).collect();
    if strategy == MigStrategy::Mixed || cut.is_empty() {
        return Ok(offered);
    }
    if let Some(whole) = offered.iter().find(|unit| is_whole(unit)) {
        return Err(format!(
            "strategy single: {} is not cut into partitions and others are; cut all alike, or choose mixed",
            whole.id
        ));
    }
    let shapes: BTreeSet<&str> = offered
        .iter()
        .filter_map(|unit| match unit.kind {
            UnitKind::Partition(shape, _) => Some(shape.name.as_str()),
            UnitKind::Whole => None,
        })
        .collect();
    match shapes.len() {
        0 => Err("strategy single: the accelerators have no partitions; cut them, or choose none".to_owned()),
        1 => Ok(offered),
        _ => {
            let shapes: Vec<_> = shapes.into_iter().collect();
            Err(format!(
                "strategy single: there are partitions of {}; cut all alike, or choose mixed",
                shapes.join(", ")
            ))
        }
    }
}

/// The accelerators that somebody has cut, or means to. Those that a claim has in this mode go back with it.
pub(crate) fn cut_by_hand<'a, 'b: 'a>(units: impl Iterator<Item = &'a Unit<'b>>) -> BTreeSet<PciAddress> {
    let is_cut = |unit: &&Unit<'_>| match unit.kind {
        UnitKind::Partition(..) => true,
        UnitKind::Whole => {
            let cut = unit.accelerator.partitioning.as_ref().is_some_and(|partitioning| partitioning.cut);
            cut && !matches!(unit.state, State::Claimed { .. })
        }
    };
    units.filter(is_cut).map(|unit| unit.accelerator.address).collect()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use tessera_core::{DeviceLayout, Inventory, Layout, Ledger, Loan, Offering, Use};

    use super::*;
    use crate::testing::{NOBODY, basis, cut, described, gpu, inventory};

    fn offered(inventory: &Inventory, config: &str) -> String {
        let units = inventory.units(&Ledger::default());
        described(&offer(&basis(&units, &NOBODY), &Config::parse(config).unwrap()))
    }

    #[test]
    fn what_a_policy_shares_is_told_from_whole_devices_by_its_name() {
        let two = inventory(Offering::NOTHING, vec![gpu(1), gpu(9)]);
        let name = two.devices()[0].accelerator.name();
        let layout = DeviceLayout { layout: Layout::Shares { count: 3 }, ..DeviceLayout::default() };
        insta::assert_snapshot!(offered(&two.laid_out(&[(name, layout)].into()), ""));
    }

    #[test]
    fn what_is_offered_follows_the_machine_and_the_config() {
        let small = ["1g.5gb", "1g.5gb"];
        let machines = [
            ("nothing", vec![]),
            ("two GPUs", vec![gpu(1), gpu(9)]),
            ("two GPUs, cut alike", vec![cut(1, &small), cut(9, &small)]),
            ("two GPUs, one of them cut", vec![gpu(1), cut(9, &["1g.5gb", "3g.20gb", "1g.5gb+me"])]),
            ("two GPUs, cut differently", vec![cut(1, &small), cut(9, &["3g.20gb"])]),
            ("two GPUs, one without partitions", vec![cut(1, &small), cut(9, &[])]),
            ("a GPU without partitions", vec![cut(1, &[])]),
        ];
        let sliced = |resources: &str| format!("flags: {{migStrategy: mixed}}\nsharing: {{timeSlicing: {resources}}}");
        let configs = [
            String::new(),
            "flags: {migStrategy: single}".to_owned(),
            "flags: {migStrategy: mixed}".to_owned(),
            sliced("{failRequestsGreaterThanOne: true, resources: [{name: gpu, replicas: 4}]}"),
            sliced("{renameByDefault: true, resources: [{name: gpu, replicas: 2}, {name: mig-1g.5gb, replicas: 2}]}"),
            sliced("{resources: [{name: gpu, rename: slow, devices: 1, replicas: 2}]}"),
            sliced(
                "{resources: [{name: mig-1g.5gb, devices: ['0:1', MIG-00000000-0000-0000-0000-000000000000], replicas: 2}]}",
            ),
            "resources: {gpus: [{pattern: H100, name: h100}]}".to_owned(),
        ];
        let mut text = String::new();
        for (machine, accelerators) in machines {
            for config in &configs {
                let described = offered(&inventory(Offering::NOTHING, accelerators.clone()), config);
                writeln!(text, "--- {machine}; {}\n{described}", config.replace('\n', "; ")).unwrap();
            }
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn what_pods_have_stays_theirs_when_the_config_changes() {
        let inventory = inventory(Offering::NOTHING, vec![gpu(1), gpu(2)]);
        let slicing = |resources: &str| format!("sharing: {{timeSlicing: {{resources: [{resources}]}}}}");
        let (shared, renamed) =
            (slicing("{name: gpu, replicas: 2}"), slicing("{name: gpu, rename: slow, replicas: 2}"));
        for (what, resource, is_shared, config, expected) in [
            ("the same", "gpu", false, "", "nvidia.com/gpu: 01 02\n"),
            ("the same, shared", "gpu", true, &*shared, "nvidia.com/gpu: 01::0 01::1 02::0 02::1\n"),
            ("shared from now on", "gpu", false, &*shared, "nvidia.com/gpu: 01::0! 01::1! 02::0 02::1\n"),
            ("not shared any more", "gpu", true, "", "nvidia.com/gpu: 01! 02\n"),
            (
                "under another name",
                "gpu",
                true,
                &*renamed,
                "nvidia.com/gpu:\nnvidia.com/slow: 01::0! 01::1! 02::0 02::1\n",
            ),
            (
                "of no pattern",
                "gpu",
                false,
                "resources: {gpus: [{pattern: A100, name: a}]}",
                "nvidia.com/a: 01! 02\nnvidia.com/gpu:\n",
            ),
        ] {
            let uses = vec![Use { accelerator: gpu(1).name(), placement: None }];
            let loan = Loan::new(format!("nvidia.com/{resource}"), is_shared, uses);
            let loans = Loans { units: [(gpu(1).uuid().to_owned(), loan)].into(), ..Loans::default() };
            let units = inventory.units(&Ledger::default());
            let config = Config::parse(config).unwrap();
            let with = |unserved: &BTreeSet<String>| {
                let basis = Basis { unserved, ..basis(&units, &loans) };
                described(&offer(&basis, &config)).replace("@0", "")
            };
            assert_eq!(with(&[format!("nvidia.com/{resource}")].into()), expected, "{what}");
            assert_eq!(
                with(&BTreeSet::new()),
                expected.replace("nvidia.com/gpu:\n", ""),
                "{what}, and others serve it"
            );
        }
    }

    #[test]
    fn what_is_offered_to_claims_alone_is_not_here_but_counts_where_an_admin_counts() {
        let inventory = inventory(Offering::NOTHING, vec![gpu(1), cut(2, &["1g.5gb"]), gpu(3)]);
        let units = inventory.units(&Ledger::default());
        let described_with = |config: &str| {
            let by_count = |accelerator: &Accelerator| accelerator.address.bus != 1;
            let basis = Basis { by_count: &by_count, ..basis(&units, &NOBODY) };
            described(&offer(&basis, &Config::parse(config).unwrap())).replace("@0", "")
        };
        assert_eq!(described_with(""), "nvidia.com/gpu: 02! 03\n");
        assert_eq!(
            described_with("flags: {migStrategy: mixed}"),
            "nvidia.com/gpu: 03\nnvidia.com/mig-1g.5gb: MIG-02-0\n"
        );
        let second = "sharing: {timeSlicing: {resources: [{name: gpu, devices: [2], replicas: 2}]}}";
        assert_eq!(described_with(second), "nvidia.com/gpu: 03::0 03::1 02!\n");
    }
}
