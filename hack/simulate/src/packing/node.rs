//! A node as the scheduler sees it: devices in the order in which they are published, and counters.

use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::{Counter, Device};
use tessera_core::{Features, Inventory, Ledger, NodeIdentity, Offering, Pool, parse_quantity, slices};
use tessera_driver::Discovery;
use tessera_vocabulary::DriverName;
use tessera_vocabulary::attributes::{nvidia, standard};

use super::board::Board;
use crate::accelerator::{Tie, accelerator};

/// What requests ask for: one profile, or wholes. An index into [`Node::kinds`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind(usize);

/// Who chooses among the devices that fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allocator {
    /// The scheduler: the first in the published order.
    Published,
    /// The scheduler, had the devices been published GPU by GPU, by profile, the first slice first.
    Naive,
    /// Of all places that fit, the one that leaves the largest room: that costs the fewest places of the largest size
    /// that are still open on the node; of equals the fewest of the next size, and so on; of equals the naive first.
    BestFit,
}

impl Allocator {
    pub(super) const ALL: [Self; 3] = [Self::Published, Self::Naive, Self::BestFit];
}

/// A node that nothing is allocated on.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// In the published order.
    places: Vec<Place>,
    /// The name of each kind and how many memory slices one takes.
    kinds: Vec<(String, u32)>,
    /// What is left of each counter.
    pub(super) left: Vec<i128>,
    gpus: u8,
}

/// A device.
#[derive(Clone, Debug)]
struct Place {
    kind: Kind,
    gpu: String,
    start: u32,
    size: u32,
    /// What it takes of which counters.
    takes: Vec<(usize, i128)>,
}

impl Node {
    pub(super) fn new(board: &Board, gpus: u8) -> Self {
        let accelerators =
            (0..gpus).map(|bus| accelerator(bus, Some(board.partitioning.clone()), Tie::NumaNode)).collect();
        let found = Discovery { accelerators, ..Discovery::default() };
        let inventory =
            Inventory::new(Offering { partitions: true, ..Offering::NOTHING }).after(&found, &Default::default());
        let node = NodeIdentity { name: "node".to_owned(), uid: "uid".to_owned() };
        let pool = Pool { driver: DriverName::nvidia_gpu(), node };
        let slices = slices(&pool, &inventory, Features::default(), &Ledger::default());

        let (mut left, mut indices) = (Vec::new(), BTreeMap::new());
        for set in slices.iter().flat_map(|slice| slice.spec.shared_counters.iter().flatten()) {
            for (name, counter) in &set.counters {
                indices.insert((set.name.as_str(), name.as_str()), left.len());
                left.push(value(counter));
            }
        }
        let mut node = Self { places: Vec::new(), kinds: Vec::new(), left, gpus };
        for device in slices.iter().flat_map(|slice| slice.spec.devices.iter().flatten()) {
            let consumed = device.consumes_counters.iter().flatten();
            let counters = consumed.flat_map(|of| of.counters.iter().map(|(name, one)| (&of.counter_set, name, one)));
            let index = |set: &str, name: &str| indices.get(&(set, name)).copied();
            let takes = counters.clone().filter_map(|(set, name, one)| Some((index(set, name)?, value(one)))).collect();
            let memory: Vec<u32> =
                counters.filter_map(|(_, name, _)| name.strip_prefix("memory-slice-")?.parse().ok()).collect();
            let (start, size) = match (memory.iter().min(), u32::try_from(memory.len())) {
                (Some(start), Ok(size)) => (*start, size),
                _ => (0, board.partitioning.slices()),
            };
            let gpu = attribute(device, standard::PCI_BUS_ID).unwrap_or_default();
            let kind = node.enter(attribute(device, nvidia::PROFILE).unwrap_or_else(|| "whole".to_owned()), size);
            node.places.push(Place { kind, gpu, start, size, takes });
        }
        node
    }

    fn enter(&mut self, name: String, slices: u32) -> Kind {
        let known = self.kinds.iter().position(|(known, _)| *known == name);
        Kind(known.unwrap_or_else(|| {
            self.kinds.push((name, slices));
            self.kinds.len() - 1
        }))
    }

    /// The first kind that is so, of a name and a number of memory slices; small ones come first.
    pub(super) fn kind(&self, is: impl Fn(&str, u32) -> bool) -> Option<Kind> {
        self.kinds.iter().position(|(name, slices)| is(name, *slices)).map(Kind)
    }

    /// How many memory slices one takes.
    pub(super) fn slices(&self, kind: Kind) -> u32 {
        self.kinds[kind.0].1
    }

    /// How many memory slices there are.
    pub(super) fn all_slices(&self) -> u32 {
        self.kinds.iter().map(|(_, slices)| *slices).max().unwrap_or_default() * u32::from(self.gpus)
    }

    /// Where an allocator puts a request, if there is room.
    pub(super) fn choose(&self, allocator: Allocator, kind: Kind) -> Option<usize> {
        let fits = |index: &usize| self.places[*index].kind == kind && self.is_open(*index);
        let mut fitting = (0..self.places.len()).filter(fits);
        let naive = |index: &usize| (self.places[*index].gpu.as_str(), self.places[*index].start);
        match allocator {
            Allocator::Published => fitting.next(),
            Allocator::Naive => fitting.min_by_key(naive),
            Allocator::BestFit => fitting.min_by_key(|index| (self.cost(*index), naive(index))),
        }
    }

    fn is_open(&self, index: usize) -> bool {
        self.places[index].takes.iter().all(|(counter, value)| self.left[*counter] >= *value)
    }

    /// How many open places a place costs, of the largest size first.
    fn cost(&self, index: usize) -> Vec<usize> {
        let mut after = self.left.clone();
        let chosen = &self.places[index];
        chosen.takes.iter().for_each(|(counter, value)| after[*counter] -= value);
        let open = |left: &[i128], place: &Place| place.takes.iter().all(|(counter, value)| left[*counter] >= *value);
        let near = self.places.iter().filter(|place| place.gpu == chosen.gpu);
        let lost = near.filter(|place| open(&self.left, place) && !open(&after, place));
        let mut cost = vec![0; usize::try_from(self.all_slices()).unwrap_or_default() + 1];
        lost.for_each(|place| cost[place.size as usize] += 1);
        cost.reverse();
        cost
    }

    pub(super) fn take(&mut self, index: usize) {
        self.places[index].takes.iter().for_each(|(counter, value)| self.left[*counter] -= value);
    }

    pub(super) fn give_back(&mut self, index: usize) {
        self.places[index].takes.iter().for_each(|(counter, value)| self.left[*counter] += value);
    }
}

fn attribute(device: &Device, name: &str) -> Option<String> {
    device.attributes.as_ref()?.get(name)?.string.clone()
}

fn value(counter: &Counter) -> i128 {
    parse_quantity(&counter.value).map_or(0, i128::from)
}
