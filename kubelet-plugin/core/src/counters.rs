//! Counters, by which the scheduler sees that two offers exclude each other.
//!
//! On two levels, since a device may take from two sets only: one set for the node with a counter for each accelerator, of
//! which the whole takes all and each partition one; and a set for each accelerator, of which partitions take their memory
//! slices and engines. So wholes, partitions, and groups of any number of wholes exclude each other.

use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::{Counter, CounterSet, DeviceCounterConsumption};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use tessera_driver::{Accelerator, Partitioning, Placement, Resources, Shape};

use crate::PreparedDevice;
use crate::offers::{Offer, What};

/// The API takes at most 32 counters in a set.
const COUNTERS_PER_SET: usize = 32;

/// The counter sets of a node's accelerators, in order.
pub(crate) struct Counters<'a> {
    accelerators: Vec<&'a Accelerator>,
}

impl<'a> Counters<'a> {
    pub(crate) fn new(accelerators: impl Iterator<Item = &'a Accelerator>) -> Self {
        Self { accelerators: accelerators.collect() }
    }

    /// The sets to publish.
    pub(crate) fn sets(&self) -> Vec<CounterSet> {
        let node = self.accelerators.chunks(COUNTERS_PER_SET).enumerate().map(|(index, chunk)| CounterSet {
            name: node_set(index),
            counters: chunk.iter().map(|one| (one.name().to_string(), counter(slices(one)))).collect(),
        });
        // Many accelerators of one model have the same.
        let mut known: Vec<(&[Shape], Resources)> = Vec::new();
        let own = self.accelerators.iter().filter_map(|accelerator| {
            let partitioning = accelerator.partitioning.as_ref()?;
            let found = known.iter().find(|(shapes, _)| *shapes == partitioning.shapes).map(|(_, total)| *total);
            let total = found.unwrap_or_else(|| {
                let total = total(partitioning);
                known.push((&partitioning.shapes, total));
                total
            });
            let all = Placement { start: 0, size: partitioning.slices() };
            Some(CounterSet { name: accelerator.name().to_string(), counters: own_counters(total, all) })
        });
        node.chain(own).collect()
    }

    /// What an offer takes.
    pub(crate) fn consumption(&self, offer: &Offer<'_>) -> Vec<DeviceCounterConsumption> {
        let (partition, value): (_, fn(&Accelerator) -> u32) = match offer.what {
            What::Whole | What::Passthrough(_) | What::Group(_) | What::Domain(_) => (None, slices),
            What::Partition { shape, placement } => (Some((shape, placement)), |_| 1),
        };
        // A group of accelerators of two sets takes from two, and there are no others in its way.
        let mut of_node: BTreeMap<usize, BTreeMap<String, Counter>> = BTreeMap::new();
        for accelerator in offer.devices.iter().map(|device| &device.accelerator) {
            let index = self.accelerators.iter().position(|one| one.address == accelerator.address).unwrap_or_default();
            let counters = of_node.entry(index / COUNTERS_PER_SET).or_default();
            counters.insert(accelerator.name().to_string(), counter(value(accelerator)));
        }
        let own = partition.map(|(shape, placement)| {
            (offer.accelerator().name().to_string(), own_counters(shape.resources, placement))
        });
        consumptions(of_node, own)
    }

    /// What each device takes that claims hold and that is no offer any more: members of a group that are put together
    /// otherwise by now, or one whose driver is not there. Without this the scheduler would give the same away again.
    ///
    /// Of an accelerator that is not known now nothing is left to take. One whose partitions are not known now has one
    /// counter for all, of which the first takes all: below zero it would block the pool.
    pub(crate) fn of_unseen<'b>(
        &self,
        unseen: impl Iterator<Item = &'b PreparedDevice>,
    ) -> Vec<Vec<DeviceCounterConsumption>> {
        let mut left: Vec<u32> = self.accelerators.iter().map(|one| slices(one)).collect();
        let of_device = |device: &PreparedDevice| {
            let mut of_node: BTreeMap<usize, BTreeMap<String, Counter>> = BTreeMap::new();
            let mut own = None;
            for used in device.uses() {
                let known = self.accelerators.iter().position(|one| one.name() == used.accelerator);
                let Some((index, accelerator)) = known.map(|index| (index, self.accelerators[index])) else { continue };
                let taken = used.placement.map_or(slices(accelerator), |_| 1).min(left[index]);
                if taken == 0 {
                    continue;
                }
                left[index] -= taken;
                let counters = of_node.entry(index / COUNTERS_PER_SET).or_default();
                counters.insert(used.accelerator.to_string(), counter(taken));
                let total = accelerator.partitioning.as_ref().map_or(0, Partitioning::slices);
                own = used.placement.filter(|placement| placement.end() <= total).map(|placement| {
                    // Of its engines nothing is known.
                    (used.accelerator.to_string(), own_counters(Resources::default(), placement))
                });
            }
            consumptions(of_node, own)
        };
        unseen.map(of_device).collect()
    }
}

fn consumptions(
    of_node: BTreeMap<usize, BTreeMap<String, Counter>>,
    own: Option<(String, BTreeMap<String, Counter>)>,
) -> Vec<DeviceCounterConsumption> {
    let of_node = of_node.into_iter().map(|(index, counters)| (node_set(index), counters));
    let consumption = |(counter_set, counters)| DeviceCounterConsumption {
        counter_set,
        counters,
        ..DeviceCounterConsumption::default()
    };
    of_node.chain(own).map(consumption).collect()
}

fn node_set(index: usize) -> String {
    format!("accelerators-{index}")
}

/// How many partitions an accelerator can have at most, or more.
fn slices(accelerator: &Accelerator) -> u32 {
    accelerator.partitioning.as_ref().map_or(1, |partitioning| partitioning.slices().max(1))
}

fn counter(value: u32) -> Counter {
    Counter { value: Quantity(value.to_string()) }
}

fn own_counters(resources: Resources, placement: Placement) -> BTreeMap<String, Counter> {
    let slices = (placement.start..placement.end()).map(|slice| (format!("memory-slice-{slice}"), 1));
    let engines = [
        ("multiprocessors", resources.multiprocessors),
        ("copy-engines", resources.copy_engines),
        ("decoders", resources.decoders),
        ("encoders", resources.encoders),
        ("jpeg-engines", resources.jpeg_engines),
        ("ofa-engines", resources.ofa_engines),
    ];
    let engines = engines.into_iter().filter(|(_, number)| *number > 0).map(|(name, number)| (name.to_owned(), number));
    slices.chain(engines).map(|(name, number)| (name, counter(number))).collect()
}

/// What as many partitions of one shape as there can be take of each: drivers do not tell what an accelerator has in all.
/// Engines of which a shape takes the only one exclude each other so, whatever their shapes.
pub(crate) fn total(partitioning: &Partitioning) -> Resources {
    let of_shape = |shape: &Shape| {
        let all = |number: u32| number.saturating_mul(shape.at_most);
        let Resources { multiprocessors, copy_engines, decoders, encoders, jpeg_engines, ofa_engines, .. } =
            shape.resources;
        [multiprocessors, copy_engines, decoders, encoders, jpeg_engines, ofa_engines].map(all)
    };
    let most = partitioning.shapes.iter().map(of_shape).reduce(|one, other| {
        let mut most = one;
        most.iter_mut().zip(other).for_each(|(most, other)| *most = (*most).max(other));
        most
    });
    let [multiprocessors, copy_engines, decoders, encoders, jpeg_engines, ofa_engines] = most.unwrap_or_default();
    // Memory is counted in slices.
    Resources { multiprocessors, copy_engines, decoders, encoders, jpeg_engines, ofa_engines, ..Resources::default() }
}
