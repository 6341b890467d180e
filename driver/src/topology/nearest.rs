use std::cmp::Reverse;
use std::collections::BTreeSet;

use tessera_vocabulary::PciAddress;

use super::closeness::Closeness;
use super::place::by_model;
use crate::Accelerator;

/// So many of the accelerators that are `available` as lie best together, with all that there `must` be, in the order of
/// their addresses. All that are available where they are not more. `all` are the node's, the lost ones too.
///
/// Where the vendor says which sets can be used together, one of those if any is free: of several the one that breaks the
/// fewest larger ones, then the first. Else what is near: from each accelerator on, the nearest to all that were taken is
/// taken next, and of the sets that so come out the one wins whose farthest two are nearest, then that with
/// the most of the nearest pairs, then that which leaves the nearer neighbours to each other. The cost grows with the
/// fourth power of the number of accelerators, and 16 take a fraction of a millisecond.
pub fn nearest<'a>(
    all: impl IntoIterator<Item = &'a Accelerator>,
    available: &BTreeSet<PciAddress>,
    must: &BTreeSet<PciAddress>,
    size: usize,
) -> Vec<PciAddress> {
    let all: Vec<_> = all.into_iter().collect();
    if let Some(block) = block(&all, available, must, size) {
        return block;
    }
    let mut free: Vec<_> = all.into_iter().filter(|one| available.contains(&one.address)).collect();
    free.sort_by_key(|one| one.address);
    let fixed: Vec<usize> = (0..free.len()).filter(|at| must.contains(&free[*at].address)).collect();
    let table = Table::of(&free);
    let seeds: Vec<Vec<usize>> =
        if fixed.is_empty() { (0..free.len()).map(|at| vec![at]).collect() } else { vec![fixed] };
    let sets = seeds.into_iter().filter(|seed| seed.len() <= size).map(|seed| table.grown(seed, size));
    // Of equals the first.
    let best = sets.min_by_key(|set| Reverse(table.worth(set))).unwrap_or_default();
    best.into_iter().map(|at| free[at].address).collect()
}

/// One of the sets that the vendor names.
fn block(
    all: &[&Accelerator],
    available: &BTreeSet<PciAddress>,
    must: &BTreeSet<PciAddress>,
    size: usize,
) -> Option<Vec<PciAddress>> {
    let models = by_model(all.iter().copied());
    let blocks = models.values().filter_map(|model| model.first()?.vendor().blocks(model)).flatten();
    let free: Vec<BTreeSet<PciAddress>> =
        blocks.map(BTreeSet::from_iter).filter(|block| block.is_subset(available)).collect();
    let fitting = free.iter().filter(|block| block.len() == size && must.is_subset(block));
    let broken = |block: &BTreeSet<_>| free.iter().filter(|other| other.len() > size && block.is_subset(other)).count();
    let best = fitting.min_by_key(|block| broken(block))?;
    Some(best.iter().copied().collect())
}

/// How near each is to each, as numbers that can be added.
struct Table {
    weights: Vec<Vec<u128>>,
    /// How near each is to all others.
    totals: Vec<u128>,
}

impl Table {
    fn of(accelerators: &[&Accelerator]) -> Self {
        let row = |one: &&Accelerator| -> Vec<Closeness> {
            accelerators.iter().map(|two| Closeness::between(one, two)).collect()
        };
        let closeness: Vec<Vec<_>> = accelerators.iter().map(row).collect();
        let mut different: Vec<_> = closeness.iter().flatten().copied().collect();
        different.sort_unstable();
        different.dedup();
        // One pair outweighs all pairs that are farther from each other.
        let base = (accelerators.len() * accelerators.len()) as u128;
        let place = |one: &Closeness| different.partition_point(|other| other < one);
        let weight = |one: &Closeness| base.saturating_pow(u32::try_from(place(one)).unwrap_or(u32::MAX));
        let weights: Vec<Vec<u128>> = closeness.iter().map(|row| row.iter().map(weight).collect()).collect();
        let totals = weights.iter().enumerate().map(|(at, row)| added(row.iter().copied()) - row[at]).collect();
        Self { weights, totals }
    }

    /// The set with the nearest of the others, one by one, until there are `size`.
    fn grown(&self, mut set: Vec<usize>, size: usize) -> Vec<usize> {
        while set.len() < size {
            let nearness = |at: usize| {
                let weights = || set.iter().map(|member| self.weights[*member][at]);
                (weights().min(), added(weights()), Reverse(self.left(at, &set)), Reverse(at))
            };
            let others = (0..self.weights.len()).filter(|at| !set.contains(at));
            let Some(next) = others.max_by_key(|at| nearness(*at)) else { break };
            set.push(next);
        }
        set.sort_unstable();
        set
    }

    /// How near it is to those that would be left.
    fn left(&self, at: usize, set: &[usize]) -> u128 {
        let taken = set.iter().filter(|member| **member != at).map(|member| self.weights[at][*member]);
        self.totals[at].saturating_sub(added(taken))
    }

    fn worth(&self, set: &[usize]) -> (Option<u128>, u128, Reverse<u128>) {
        let pairs =
            || set.iter().enumerate().flat_map(|(at, one)| set[at + 1..].iter().map(|two| self.weights[*one][*two]));
        let left = added(set.iter().map(|one| self.left(*one, set)));
        (pairs().min(), added(pairs()), Reverse(left))
    }
}

fn added(weights: impl Iterator<Item = u128>) -> u128 {
    weights.fold(0, u128::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{below_switch, gpu, gpus, in_fabric, link, on_node};
    use super::*;

    fn addresses(buses: &[u8]) -> BTreeSet<PciAddress> {
        buses.iter().map(|bus| gpu(*bus).address).collect()
    }

    fn chosen(all: &[Accelerator], available: &[u8], must: &[u8], size: usize) -> Vec<u8> {
        let found = nearest(all, &addresses(available), &addresses(must), size);
        found.into_iter().map(|address| address.bus).collect()
    }

    /// Sixteen GPUs behind four switches on two NUMA nodes.
    fn tower() -> Vec<Accelerator> {
        gpus(16)
            .into_iter()
            .zip(0_u8..)
            .map(|(gpu, at)| below_switch(on_node(gpu, u32::from(at / 8)), at / 4))
            .collect()
    }

    #[test]
    fn what_is_near_is_taken_and_what_is_broken_is_used_up() {
        let all: Vec<u8> = (0..16).collect();
        for (what, available, must, size, expected) in [
            ("nothing", &all[..], &[][..], 0, vec![]),
            ("one of all", &all, &[], 1, vec![0]),
            ("one switch", &all, &[], 4, vec![0, 1, 2, 3]),
            ("one NUMA node", &all, &[], 8, (0..8).collect()),
            ("beside what is there", &all, &[9], 2, vec![8, 9]),
            ("a switch that is half in use", &[0, 1, 2, 3, 6, 7], &[], 2, vec![6, 7]),
            ("the last one of a switch", &[0, 1, 2, 3, 7, 8, 9], &[], 1, vec![7]),
            ("more than a switch has", &[0, 1, 4, 5, 8, 9], &[], 4, vec![0, 1, 4, 5]),
            ("more than there are", &[3, 4], &[], 3, vec![3, 4]),
            ("two that are far apart", &all, &[0, 15], 3, vec![0, 1, 15]),
        ] {
            assert_eq!(chosen(&tower(), available, must, size), expected, "{what}");
        }
    }

    #[test]
    fn links_count_more_than_switches_and_a_fabric_more_than_a_numa_node() {
        let mut linked = tower();
        link(&mut linked, 0, 15, 4);
        let all: Vec<u8> = (0..16).collect();
        assert_eq!(chosen(&linked, &all, &[], 2), [0, 15]);
        // One has fewer links than the others: it is not in their fabric, though it is on their node.
        let on_board =
            |(gpu, at): (Accelerator, u32)| on_node(in_fabric(gpu, "f", if at == 1 { 11 } else { 12 }), at / 4);
        let board: Vec<_> = gpus(8).into_iter().zip(0..).map(on_board).collect();
        assert_eq!(chosen(&board, &[0, 1, 5], &[], 2), [0, 5]);
        assert_eq!(chosen(&board, &[0, 1, 2, 5], &[], 2), [0, 2]);
    }
}
