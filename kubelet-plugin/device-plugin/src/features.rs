//! The labels of a node that tell pods what GPUs it has, as NVIDIA's GPU feature discovery writes them: the same names, and
//! the same values on the same hardware.

mod gpus;
mod partitions;
mod sharing;
mod value;
mod versions;

use std::collections::{BTreeMap, BTreeSet};

use tessera_core::{Inventory, Ledger};
use tessera_driver::nvidia::VirtualGpu;
use tessera_vocabulary::feature_labels as names;

use crate::Config;
use crate::offer::cut_by_hand;
use gpus::Gpu;
use value::value;

/// Labels of a node, by their keys.
pub type FeatureLabels = BTreeMap<String, String>;

/// What the machine is called where its firmware does not say.
const UNKNOWN: &str = "unknown";
/// PCI classes: what drives a screen, and what could and does not.
const VGA_CONTROLLER: u32 = 0x03_0000;
const CONTROLLER_3D: u32 = 0x03_0200;

/// What a node's GPUs are, and what pods get of them by count; nothing where there are none. `machine` is what its firmware
/// calls it.
///
/// What comes and goes with claims is not told: partitions are those that somebody made by hand, and a GPU that is lost for
/// the moment still counts. `None` while a claim has a GPU from its driver, which has therefore told nothing of it: what was
/// said before is still so. When labels were written is for who writes them to say.
pub fn features(
    machine: Option<&str>,
    inventory: &Inventory,
    ledger: &Ledger,
    config: &Config,
) -> Option<FeatureLabels> {
    let in_use = ledger.accelerators_in_use();
    let mut untold = inventory.devices().iter().map(|device| &device.accelerator).filter(|one| !one.has_driver_facts());
    if untold.any(|accelerator| in_use.contains(&accelerator.name())) {
        return None;
    }
    let units = inventory.units(ledger);
    let gpus = gpus::known(inventory, &cut_by_hand(units.iter()));
    if gpus.is_empty() {
        return Some(FeatureLabels::new());
    }
    let mut labels = FeatureLabels::new();
    labels.insert(names::MACHINE.to_owned(), value(machine.unwrap_or(UNKNOWN)));
    labels.insert(names::MODE.to_owned(), mode(&gpus).to_owned());
    labels.insert(names::MIG_CAPABLE.to_owned(), gpus.iter().any(|gpu| gpu.can_be_cut).to_string());
    // Until MPS is served.
    labels.insert(names::MPS_CAPABLE.to_owned(), false.to_string());
    labels.extend(clique(&gpus).map(|clique| (names::CLIQUE.to_owned(), value(clique))));
    labels.extend(virtual_gpus(&gpus));
    labels.extend(versions::labels(&gpus));
    labels.extend(gpus::labels(&gpus, config));
    // Last: where partitions are called as GPUs are, what is said of them counts.
    labels.extend(partitions::labels(&gpus, &units, config));
    Some(labels)
}

/// What the GPUs are for; boards of two kinds are for nothing in particular.
fn mode(gpus: &[Gpu<'_>]) -> &'static str {
    let classes: BTreeSet<_> = gpus.iter().map(|gpu| gpu.facts.pci_class).collect();
    match (classes.len(), classes.first().copied().flatten()) {
        (1, Some(VGA_CONTROLLER)) => "graphics",
        (1, Some(CONTROLLER_3D)) => "compute",
        _ => UNKNOWN,
    }
}

/// The clique of all that are in one, if that is the same.
fn clique<'a>(gpus: &[Gpu<'a>]) -> Option<&'a str> {
    let cliques: BTreeSet<_> = gpus.iter().filter_map(|gpu| gpu.facts.clique.as_deref()).collect();
    cliques.first().copied().filter(|_| cliques.len() == 1)
}

/// Nothing where it cannot be told of all.
fn virtual_gpus(gpus: &[Gpu<'_>]) -> FeatureLabels {
    let told = || gpus.iter().map(|gpu| &gpu.facts.virtual_gpu);
    let driver = told().find_map(|told| if let VirtualGpu::Yes(Some(driver)) = told { Some(driver) } else { None });
    let present = told().any(|told| matches!(told, VirtualGpu::Yes(_)));
    if !present && told().any(|told| *told == VirtualGpu::Unknown) {
        return FeatureLabels::new();
    }
    let present = (names::VGPU_PRESENT.to_owned(), present.to_string());
    let driver = driver.into_iter().flat_map(|driver| {
        let version = (names::VGPU_HOST_DRIVER_VERSION.to_owned(), value(&driver.version));
        [version, (names::VGPU_HOST_DRIVER_BRANCH.to_owned(), value(&driver.branch))]
    });
    std::iter::once(present).chain(driver).collect()
}

/// What most of them are called; of two that are as frequent, the first in the alphabet: two nodes with the same boards in
/// other slots have the same labels. NVIDIA's takes any.
fn most<'a>(models: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for model in models {
        *counts.entry(model).or_default() += 1;
    }
    let frequent = counts.into_iter().rev().max_by_key(|(_, count)| *count);
    frequent.map(|(model, _)| model)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use tessera_core::Offering;
    use tessera_driver::nvidia::{self, HostDriver};
    use tessera_driver::{Accelerator, Facts};

    use super::*;
    use crate::testing::{cut, gpu, inventory};

    /// A GPU whose driver says something else of it.
    fn but(accelerator: Accelerator, change: impl FnOnce(&mut nvidia::Gpu)) -> Accelerator {
        let Facts::NvidiaGpu(mut facts) = accelerator.facts else { panic!("a GPU") };
        change(&mut facts);
        Accelerator { facts: Facts::NvidiaGpu(facts), ..accelerator }
    }

    fn labels(accelerators: Vec<Accelerator>, config: &str) -> FeatureLabels {
        let inventory = inventory(Offering::NOTHING, accelerators);
        features(Some("DGXA100 920-23687"), &inventory, &Ledger::default(), &Config::parse(config).unwrap()).unwrap()
    }

    /// Those of resources, without what all machines here have in common.
    fn of_resources(accelerators: Vec<Accelerator>, config: &str) -> String {
        let common = labels(vec![gpu(1)], "");
        let mut text = String::new();
        for (key, value) in labels(accelerators, config) {
            if common.get(&key) != Some(&value) {
                writeln!(text, "{key}={value}").unwrap();
            }
        }
        text
    }

    #[test]
    fn a_node_without_gpus_has_none() {
        assert_eq!(labels(Vec::new(), ""), FeatureLabels::new());
    }

    #[test]
    fn all_labels_of_one_gpu() {
        insta::assert_debug_snapshot!(labels(vec![gpu(1)], ""));
    }

    #[test]
    fn labels_of_resources_follow_the_machine_and_the_config() {
        let other = |bus| but(gpu(bus), |facts| facts.product_name = "NVIDIA TITAN X (Pascal)".to_owned());
        let small = ["1g.5gb", "1g.5gb"];
        let machines = [
            ("two GPUs", vec![gpu(1), gpu(9)]),
            ("two models, three GPUs", vec![other(1), gpu(2), gpu(9)]),
            ("two GPUs, cut alike", vec![cut(1, &small), cut(9, &small)]),
            ("two GPUs, one of them cut", vec![gpu(1), cut(9, &["1g.5gb", "3g.20gb", "1g.5gb+me"])]),
            ("two GPUs, cut differently", vec![cut(1, &small), cut(9, &["3g.20gb"])]),
            ("two GPUs, one without partitions", vec![cut(1, &small), cut(9, &[])]),
        ];
        let sliced = |strategy: &str, resources: &str| {
            format!("flags: {{migStrategy: {strategy}}}\nsharing: {{timeSlicing: {resources}}}")
        };
        let configs = [
            String::new(),
            "flags: {migStrategy: single}".to_owned(),
            "flags: {migStrategy: mixed}".to_owned(),
            sliced("none", "{resources: [{name: gpu, replicas: 4}]}"),
            sliced("single", "{resources: [{name: nvidia.com/gpu, replicas: 4}]}"),
            sliced(
                "mixed",
                "{renameByDefault: true, resources: [{name: gpu, replicas: 2}, {name: mig-1g.5gb, replicas: 3}]}",
            ),
            sliced("mixed", "{resources: [{name: gpu, rename: slow, replicas: 2}, {name: mig-3g.20gb, replicas: 3}]}"),
            sliced("none", "{resources: [{name: other, replicas: 4}]}"),
        ];
        let mut text = String::new();
        for (machine, accelerators) in machines {
            for config in &configs {
                let labels = of_resources(accelerators.clone(), config);
                writeln!(text, "--- {machine}; {}\n{labels}", config.replace('\n', "; ")).unwrap();
            }
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn what_gpus_do_not_agree_in_is_not_said() {
        let of = |gpus: [Accelerator; 2], key: &str| labels(gpus.to_vec(), "").get(key).cloned();
        let class = |class| move |bus| but(gpu(bus), |facts| facts.pci_class = class);
        for (first, second, mode) in [
            (Some(VGA_CONTROLLER), Some(VGA_CONTROLLER), "graphics"),
            (Some(CONTROLLER_3D), Some(CONTROLLER_3D), "compute"),
            (Some(CONTROLLER_3D), Some(VGA_CONTROLLER), "unknown"),
            (Some(CONTROLLER_3D), None, "unknown"),
            (None, None, "unknown"),
        ] {
            assert_eq!(of([class(first)(1), class(second)(2)], names::MODE).as_deref(), Some(mode));
        }
        let clique = |name: Option<&str>| {
            let name = name.map(str::to_owned);
            move |bus| but(gpu(bus), |facts| facts.clique = name)
        };
        for (first, second, expected) in [
            (None, None, None),
            (Some("rack.7"), Some("rack.7"), Some("rack.7")),
            (Some("rack.7"), None, Some("rack.7")),
            (Some("rack.7"), Some("rack.8"), None),
        ] {
            assert_eq!(of([clique(first)(1), clique(second)(2)], names::CLIQUE).as_deref(), expected);
        }
    }

    #[test]
    fn a_hypervisor_is_told_where_it_can_be() {
        let driver = HostDriver { version: "460.16".to_owned(), branch: "r460_00".to_owned() };
        for (told, expected) in [
            (VirtualGpu::Unknown, vec![]),
            (VirtualGpu::No, vec!["false"]),
            (VirtualGpu::Yes(None), vec!["true"]),
            (VirtualGpu::Yes(Some(driver)), vec!["r460_00", "460.16", "true"]),
        ] {
            let labels = labels(vec![but(gpu(1), |facts| facts.virtual_gpu = told)], "");
            let vgpu = labels.iter().filter(|(key, _)| key.starts_with("nvidia.com/vgpu."));
            assert_eq!(vgpu.map(|(_, value)| value).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn the_slot_of_a_board_tells_nothing() {
        let other = |bus| but(gpu(bus), |facts| facts.product_name = "NVIDIA L4".to_owned());
        assert_eq!(labels(vec![gpu(1), other(2)], ""), labels(vec![other(1), gpu(2)], ""));
    }
}
