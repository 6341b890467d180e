//! What is said of partitions that somebody made by hand.

use std::collections::BTreeMap;

use tessera_core::{Unit, UnitKind};
use tessera_driver::{Accelerator, Shape};
use tessera_vocabulary::ExtendedResources;
use tessera_vocabulary::feature_labels::{GPU, MIG_STRATEGY, PARTITION, suffix};

use super::gpus::{Gpu, of_resource};
use super::sharing::Sharing;
use super::{FeatureLabels, most, value};
use crate::{Config, MigStrategy};

/// A partition's shape and what it is a part of.
type Part<'a> = (&'a Shape, &'a Accelerator);

pub(super) fn labels(gpus: &[Gpu<'_>], units: &[Unit<'_>], config: &Config) -> FeatureLabels {
    let (word, labels) = match config.mig_strategy {
        MigStrategy::None => return FeatureLabels::new(),
        MigStrategy::Single => ("single", single(gpus, units, config)),
        MigStrategy::Mixed => {
            let by_shape = by_shape(units);
            let labels = by_shape.into_values().flat_map(|parts| {
                let profile = parts.first().map(|(shape, _)| profile(shape)).unwrap_or_default();
                of_parts(&format!("{PARTITION}{profile}"), &parts, config)
            });
            ("mixed", labels.collect())
        }
    };
    std::iter::once((MIG_STRATEGY.to_owned(), word.to_owned())).chain(labels).collect()
}

/// All GPUs must be cut, and alike; where none is, they are what GPUs are without partitions.
fn single(gpus: &[Gpu<'_>], units: &[Unit<'_>], config: &Config) -> FeatureLabels {
    if gpus.iter().all(|gpu| !gpu.is_cut) {
        return FeatureLabels::new();
    }
    let has_parts = |gpu: &Gpu<'_>| {
        units.iter().any(|unit| unit.kind != UnitKind::Whole && unit.accelerator.address == gpu.address)
    };
    let by_shape = by_shape(units);
    match by_shape.values().next() {
        Some(parts) if by_shape.len() == 1 && gpus.iter().all(has_parts) => of_parts(GPU, parts, config),
        _ => invalid(gpus),
    }
}

/// What a node says whose partitions are not as the strategy has it.
fn invalid(gpus: &[Gpu<'_>]) -> FeatureLabels {
    let cut = gpus.iter().filter(|gpu| gpu.is_cut).map(|gpu| gpu.facts.product_name.as_str());
    let labels = [
        (suffix::PRODUCT, format!("{}-MIG-INVALID", value(most(cut).unwrap_or_default()))),
        (suffix::COUNT, "0".to_owned()),
        (suffix::REPLICAS, "0".to_owned()),
        (suffix::SHARING_STRATEGY, String::new()),
        (suffix::MEMORY, "0".to_owned()),
    ];
    labels.into_iter().map(|(suffix, value)| (format!("{GPU}.{suffix}"), value)).collect()
}

/// Each shape's, by its name.
fn by_shape<'a>(units: &[Unit<'a>]) -> BTreeMap<&'a str, Vec<Part<'a>>> {
    let mut by_shape: BTreeMap<&str, Vec<Part<'_>>> = BTreeMap::new();
    for unit in units {
        if let UnitKind::Partition(shape, _) = unit.kind {
            by_shape.entry(&shape.name).or_default().push((shape, unit.accelerator));
        }
    }
    by_shape
}

/// The labels of partitions of one shape, as a resource that is called `name`.
fn of_parts(name: &str, parts: &[Part<'_>], config: &Config) -> FeatureLabels {
    let model = most(parts.iter().map(|(_, accelerator)| accelerator.model())).unwrap_or_default();
    let Some((shape, _)) = parts.iter().find(|(_, accelerator)| accelerator.model() == model) else {
        return FeatureLabels::new();
    };
    let sharing = Sharing::of(config, config.partition(&shape.name, ExtendedResources::NVIDIA).as_ref());
    let product = format!("{}-MIG-{}", value(model), profile(shape));
    let mut labels = of_resource(name, &product, parts.len(), &sharing);
    let resources = shape.resources;
    let attributes = [
        (suffix::MEMORY, resources.memory_bytes >> 20),
        (suffix::MULTIPROCESSORS, resources.multiprocessors.into()),
        // It is not cut further: its one compute instance is all of it.
        (suffix::GPU_SLICES, resources.compute_slices.into()),
        (suffix::COMPUTE_SLICES, resources.compute_slices.into()),
        (suffix::COPY_ENGINES, resources.copy_engines.into()),
        (suffix::DECODERS, resources.decoders.into()),
        (suffix::ENCODERS, resources.encoders.into()),
        (suffix::JPEG_ENGINES, resources.jpeg_engines.into()),
        (suffix::OFA_ENGINES, resources.ofa_engines.into()),
    ];
    labels.extend(attributes.map(|(suffix, number)| (format!("{name}.{suffix}"), number.to_string())));
    labels
}

/// A profile in a key or a value, which take no +.
fn profile(shape: &Shape) -> String {
    shape.name.replace('+', ".")
}
