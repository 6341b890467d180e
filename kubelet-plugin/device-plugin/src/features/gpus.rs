//! What is said of whole GPUs.

use std::collections::BTreeSet;

use tessera_core::Inventory;
use tessera_driver::{Facts, nvidia};
use tessera_vocabulary::feature_labels::{GPU, suffix};
use tessera_vocabulary::{ExtendedResources, PciAddress};

use super::sharing::Sharing;
use super::value::within;
use super::{FeatureLabels, most, value};
use crate::Config;

/// A GPU of which its driver has told.
pub(super) struct Gpu<'a> {
    pub(super) address: PciAddress,
    pub(super) facts: &'a nvidia::Gpu,
    pub(super) can_be_cut: bool,
    /// Whether somebody has cut it, or means to.
    pub(super) is_cut: bool,
}

/// All of a node's, by PCI address.
pub(super) fn known<'a>(inventory: &'a Inventory, cut: &BTreeSet<PciAddress>) -> Vec<Gpu<'a>> {
    let accelerators = inventory.devices().iter().map(|device| &device.accelerator);
    let gpus = accelerators.filter_map(|accelerator| match &accelerator.facts {
        Facts::NvidiaGpu(facts) => Some(Gpu {
            address: accelerator.address,
            facts,
            can_be_cut: accelerator.partitioning.is_some(),
            is_cut: cut.contains(&accelerator.address),
        }),
        Facts::NvidiaFunction | Facts::Tpu(_) => None,
    });
    gpus.collect()
}

/// Labels that are made alike of whole GPUs and of partitions: those of a resource that is called `name`.
pub(super) fn of_resource(name: &str, product: &str, count: usize, sharing: &Sharing) -> FeatureLabels {
    let product = within(&format!("{product}{}", sharing.suffix())).to_owned();
    let labels = [
        (suffix::PRODUCT, product),
        (suffix::COUNT, count.to_string()),
        (suffix::REPLICAS, sharing.replicas().to_string()),
        (suffix::SHARING_STRATEGY, sharing.strategy().to_owned()),
    ];
    labels.into_iter().map(|(suffix, value)| (format!("{name}.{suffix}"), value)).collect()
}

/// Of the most frequent model: it counts also what is cut of it, but how GPUs are shared does not hold for those. Where all
/// are cut, nothing is said to be shared.
pub(super) fn labels(gpus: &[Gpu<'_>], config: &Config) -> FeatureLabels {
    let models =
        |cut: bool| gpus.iter().filter(move |gpu| gpu.is_cut == cut).map(|gpu| gpu.facts.product_name.as_str());
    let (whole, cut) = (most(models(false)), most(models(true)));
    let same = |model: &str| gpus.iter().filter(move |gpu| gpu.facts.product_name == model).count();
    let Some(model) = whole.or(cut) else { return FeatureLabels::new() };
    let Some(gpu) = gpus.iter().find(|gpu| gpu.facts.product_name == model) else { return FeatureLabels::new() };
    let sharing = match whole {
        Some(model) => Sharing::of(config, config.whole(model, ExtendedResources::NVIDIA).as_ref()),
        None => Sharing::Off,
    };
    let mut labels = of_resource(GPU, &value(model), same(model), &sharing);
    let (major, minor) = (gpu.facts.cuda_compute_capability.major, gpu.facts.cuda_compute_capability.minor);
    let more = [
        (suffix::MEMORY, gpu.facts.memory_bytes.map(|bytes| (bytes >> 20).to_string())),
        (suffix::FAMILY, Some(family(major, minor).to_owned())),
        (suffix::COMPUTE_MAJOR, Some(major.to_string())),
        (suffix::COMPUTE_MINOR, Some(minor.to_string())),
    ];
    labels.extend(more.into_iter().filter_map(|(suffix, value)| Some((format!("{GPU}.{suffix}"), value?))));
    labels
}

/// NVIDIA's own words, by the compute capability. What it has no word for has none here.
fn family(major: u64, minor: u64) -> &'static str {
    match (major, minor) {
        (1, _) => "tesla",
        (2, _) => "fermi",
        (3, _) => "kepler",
        (5, _) => "maxwell",
        (6, _) => "pascal",
        (7, ..5) => "volta",
        (7, _) => "turing",
        (8, ..9) => "ampere",
        (8, _) => "ada-lovelace",
        (9, _) => "hopper",
        (10 | 12, _) => "blackwell",
        (13, _) => "rubin",
        _ => "undefined",
    }
}
