use std::cmp::Reverse;

use super::closeness::Closeness;
use crate::Accelerator;

/// Sets of 2, 4 and 8 of these accelerators, each larger one made of two smaller ones, the nearest first.
///
/// Sets of one size never overlap, so there are fewer sets than accelerators. As many pairs as can be are made, and as
/// many larger ones: who finds no near partner is given a far one.
pub(super) fn doubled<'a>(cell: &[&'a Accelerator]) -> Vec<Vec<&'a Accelerator>> {
    let mut made = Vec::new();
    let mut blocks: Vec<Vec<&Accelerator>> = cell.iter().map(|one| vec![*one]).collect();
    for _ in 0..3 {
        blocks.sort_by_key(|block| block.iter().map(|one| one.address).min());
        blocks = joined(&blocks);
        made.extend(blocks.iter().cloned());
    }
    made
}

/// The sets, two and two.
fn joined<'a>(blocks: &[Vec<&'a Accelerator>]) -> Vec<Vec<&'a Accelerator>> {
    let positions = 0..blocks.len();
    let mut pairs: Vec<(usize, usize)> =
        positions.flat_map(|left| (left + 1..blocks.len()).map(move |right| (left, right))).collect();
    // Stable: of pairs that are equally near, those that begin with the lowest addresses come first.
    pairs.sort_by_key(|(left, right)| Reverse(nearness(&blocks[*left], &blocks[*right])));
    let mut taken = vec![false; blocks.len()];
    let mut joined = Vec::new();
    for (left, right) in pairs {
        if !taken[left] && !taken[right] {
            (taken[left], taken[right]) = (true, true);
            joined.push([blocks[left].as_slice(), blocks[right].as_slice()].concat());
        }
    }
    joined
}

/// The closeness of those that are farthest from each other. `None` only for empty sets, which there are none of.
fn nearness(left: &[&Accelerator], right: &[&Accelerator]) -> Option<Closeness> {
    left.iter().flat_map(|one| right.iter().map(|two| Closeness::between(one, two))).min()
}
