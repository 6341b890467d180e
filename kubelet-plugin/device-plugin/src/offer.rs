use std::collections::{BTreeMap, BTreeSet};

use tessera_core::{State, Unit, UnitKind};
use tessera_vocabulary::{ExtendedResources, PciAddress};

use crate::{Config, DeviceId, MigStrategy, ResourceName, replicas};

/// What the kubelet is offered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// The resources that have devices, by name.
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
pub fn offer(units: &[Unit<'_>], family: ExtendedResources, config: &Config) -> Offer {
    let mut offer = Offer::default();
    let chosen = match chosen(units, config.mig_strategy) {
        Ok(chosen) => chosen,
        Err(problem) => return Offer { problems: vec![problem], ..offer },
    };
    for unit in chosen {
        let (what, name) = match unit.kind {
            UnitKind::Whole => (unit.accelerator.model(), config.whole(unit.accelerator.model(), family)),
            UnitKind::Partition(shape, _) => (shape.name.as_str(), config.partition(&shape.name, family)),
        };
        match name {
            Some(name) => offer.resources.entry(name).or_default().devices.push(Offered::of(unit)),
            None => offer.problems.push(format!("{}: no pattern of the config matches {what}", unit.id)),
        }
    }
    match &config.time_slicing {
        Some(slicing) => replicas::replicate(offer, slicing, &replicas::numbers(units)),
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

    /// Whether it can be handed out.
    pub fn is_healthy(&self) -> bool {
        self.state == State::Ready
    }
}

/// The units that a strategy offers.
fn chosen<'a, 'b>(units: &'b [Unit<'a>], strategy: MigStrategy) -> Result<Vec<&'b Unit<'a>>, String> {
    let is_whole = |unit: &&Unit<'_>| unit.kind == UnitKind::Whole;
    if strategy == MigStrategy::None {
        return Ok(units.iter().filter(is_whole).collect());
    }
    let cut = cut_by_hand(units);
    let is_cut = |unit: &Unit<'_>| cut.contains(&unit.accelerator.address);
    let offered: Vec<_> = units.iter().filter(|unit| is_whole(unit) != is_cut(unit)).collect();
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
fn cut_by_hand(units: &[Unit<'_>]) -> BTreeSet<PciAddress> {
    let is_cut = |unit: &&Unit<'_>| match unit.kind {
        UnitKind::Partition(..) => true,
        UnitKind::Whole => {
            let cut = unit.accelerator.partitioning.as_ref().is_some_and(|partitioning| partitioning.cut);
            cut && !matches!(unit.state, State::Claimed { .. })
        }
    };
    units.iter().filter(is_cut).map(|unit| unit.accelerator.address).collect()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use tessera_core::{Inventory, Ledger, Offering};

    use super::*;
    use crate::testing::{cut, gpu, inventory};

    /// A line for each resource and problem: the devices without what all ids of GPUs begin with.
    fn described(inventory: &Inventory, config: &str) -> String {
        let units = inventory.units(&Ledger::default());
        let offer = offer(&units, ExtendedResources::NVIDIA, &Config::parse(config).unwrap());
        let mut text = String::new();
        for (name, resource) in &offer.resources {
            write!(text, "{name}{}:", if resource.one_at_most { " (one at most)" } else { "" }).unwrap();
            for device in &resource.devices {
                let id = device.id.to_string().replace("GPU-00000000-0000-0000-0000-0000000000", "");
                let numa = device.numa_node.map(|node| format!("@{node}")).unwrap_or_default();
                write!(text, " {id}{numa}{}", if device.is_healthy() { "" } else { "!" }).unwrap();
            }
            text += "\n";
        }
        for problem in &offer.problems {
            writeln!(text, "problem: {}", problem.replace("GPU-00000000-0000-0000-0000-0000000000", "")).unwrap();
        }
        text
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
                let described = described(&inventory(Offering::NOTHING, accelerators.clone()), config);
                writeln!(text, "--- {machine}; {}\n{described}", config.replace('\n', "; ")).unwrap();
            }
        }
        insta::assert_snapshot!(text);
    }
}
