use std::cmp::Reverse;
use std::collections::BinaryHeap;

use fastrand::Rng;

use super::Packing;
use super::node::{Allocator, Kind, Node};

/// How much of what was asked for was placed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Accepted {
    placed: u64,
    asked: u64,
    slices_placed: u64,
    slices_asked: u64,
}

impl Accepted {
    /// The part of the requests, of 1.
    pub(super) fn requests(&self) -> f64 {
        self.placed as f64 / self.asked.max(1) as f64
    }

    /// The part of the memory slices that they asked for, of 1.
    pub(super) fn slices(&self) -> f64 {
        self.slices_placed as f64 / self.slices_asked.max(1) as f64
    }
}

/// When a request goes again, in billionths of the mean holding time: an integer, so that it can be ordered.
type Time = u64;
const MEAN: f64 = 1e9;

/// The requests that come to a node, one after the other. Those who choose differently see the same requests.
pub(super) fn life(node: &Node, allocator: Allocator, wishes: &[(Kind, u32)], load: f64, options: Packing) -> Accepted {
    let mut rng = Rng::with_seed(options.seed);
    let mut node = node.clone();
    let all: u32 = wishes.iter().map(|(_, weight)| weight).sum();
    let of_all: f64 = wishes.iter().map(|(kind, weight)| f64::from(node.slices(*kind) * weight)).sum();
    // At this pace the load is what is asked for: as many come in a holding time as would take so many slices.
    let pause = of_all / f64::from(all.max(1)) / (load * f64::from(node.all_slices().max(1)));
    let (mut now, mut accepted) = (0, Accepted::default());
    let mut leaving: BinaryHeap<Reverse<(Time, usize)>> = BinaryHeap::new();
    for _ in 0..options.requests {
        now += exponential(&mut rng, pause);
        while let Some(Reverse((_, place))) = leaving.peek().copied().filter(|Reverse((time, _))| *time <= now) {
            leaving.pop();
            node.give_back(place);
        }
        let (wish, holding) = (rng.u32(..all.max(1)), exponential(&mut rng, 1.0));
        let mut seen = 0;
        let chosen = wishes.iter().find(|(_, weight)| {
            seen += weight;
            wish < seen
        });
        let Some((kind, _)) = chosen.copied() else { return accepted };
        accepted.asked += 1;
        accepted.slices_asked += u64::from(node.slices(kind));
        if let Some(place) = node.choose(allocator, kind) {
            node.take(place);
            leaving.push(Reverse((now + holding, place)));
            accepted.placed += 1;
            accepted.slices_placed += u64::from(node.slices(kind));
        }
    }
    accepted
}

/// A random time with this mean, in mean holding times.
fn exponential(rng: &mut Rng, mean: f64) -> Time {
    (-mean * (1.0 - rng.f64()).ln() * MEAN) as Time
}
