use std::collections::BTreeMap;

use super::closeness::{Closeness, direct_links};
use super::links::{Fabric, FabricDomain};
use crate::Accelerator;

/// Accelerators of one model that links tie to each other, each as well as every other.
#[derive(Clone, Debug)]
pub(super) struct Island<'a> {
    pub(super) tie: IslandTie,
    /// By address, never empty.
    pub(super) members: Vec<&'a Accelerator>,
}

/// What ties an island.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum IslandTie {
    /// The switches of a domain.
    Switched(FabricDomain),
    /// Links from each to each, the same number everywhere.
    Direct,
    /// Links from neighbour to neighbour.
    Mesh(FabricDomain),
}

/// The sizes in which directly linked accelerators are looked for: those of groups, so that as few as can be are left
/// without one.
const SIZES: [usize; 3] = [8, 4, 2];

/// The islands among accelerators of one model, sorted by address. Nobody is in two.
///
/// Of a switched domain only those with the most links belong: where a link to a switch is down, NVIDIA's fabric
/// manager takes the GPU's peers away by default, and where it does not, the GPU is the slowest of each group.
pub(super) fn islands<'a>(model: &[&'a Accelerator]) -> Vec<Island<'a>> {
    let mut domains: BTreeMap<&FabricDomain, Vec<(u32, &Accelerator)>> = BTreeMap::new();
    let mut meshes: BTreeMap<&FabricDomain, Vec<&Accelerator>> = BTreeMap::new();
    let mut unswitched = Vec::new();
    for one in model {
        match &one.links.fabric {
            Fabric::Mesh(domain) => meshes.entry(domain).or_default().push(one),
            Fabric::Member { domain, links } => domains.entry(domain).or_default().push((*links, one)),
            Fabric::None | Fabric::Forming | Fabric::Failed => unswitched.push(*one),
        }
    }
    let switched = domains.into_iter().map(|(domain, members)| {
        let most = members.iter().map(|(links, _)| *links).max();
        let whole = members.into_iter().filter(|(links, _)| Some(*links) == most).map(|(_, one)| one);
        Island { tie: IslandTie::Switched(domain.clone()), members: whole.collect() }
    });
    let meshes = meshes.into_iter().map(|(domain, members)| Island { tie: IslandTie::Mesh(domain.clone()), members });
    switched.chain(meshes).chain(direct(&unswitched)).collect()
}

/// Sets whose members are linked directly, each with each by the same number of links; the broadest ties first.
fn direct<'a>(accelerators: &[&'a Accelerator]) -> Vec<Island<'a>> {
    let mut free = accelerators.to_vec();
    let widths = free.iter().flat_map(|one| one.links.peers.values().copied());
    let mut widths: Vec<u32> = widths.filter(|links| *links > 0).collect();
    widths.sort_unstable();
    widths.dedup();
    let mut islands = Vec::new();
    for width in widths.into_iter().rev() {
        let mut cells: Vec<Vec<&Accelerator>> = Vec::new();
        for size in SIZES {
            while let Some(cell) = cell(&free, size, width) {
                free.retain(|one| cell.iter().all(|member| member.address != one.address));
                cells.push(cell);
            }
        }
        // Who is left over, such as the third of three, belongs to a cell where it is linked to all of it.
        merge(&mut cells, width);
        for cell in &mut cells {
            let linked =
                |one: &&Accelerator, cell: &[&Accelerator]| cell.iter().all(|two| direct_links(one, two) == width);
            while let Some(position) = free.iter().position(|one| linked(one, cell)) {
                cell.push(free.remove(position));
            }
            cell.sort_by_key(|one| one.address);
        }
        islands.extend(cells.into_iter().map(|members| Island { tie: IslandTie::Direct, members }));
    }
    islands
}

/// Makes one cell of two wherever all their members are linked.
fn merge(cells: &mut Vec<Vec<&Accelerator>>, width: u32) {
    let mut left = 0;
    while left < cells.len() {
        let linked = |right: &Vec<&Accelerator>| {
            cells[left].iter().all(|one| right.iter().all(|two| direct_links(one, two) == width))
        };
        match cells[left + 1..].iter().position(linked) {
            Some(found) => {
                let right = cells.remove(left + 1 + found);
                cells[left].extend(right);
            }
            None => left += 1,
        }
    }
}

/// The first set of this size that is linked each with each. It begins with who has the fewest links to choose from, so
/// that pairs leave few alone, and goes on with the nearest.
fn cell<'a>(free: &[&'a Accelerator], size: usize, width: u32) -> Option<Vec<&'a Accelerator>> {
    let choices = |one: &Accelerator| free.iter().filter(|two| direct_links(one, two) == width).count();
    let mut seeds = free.to_vec();
    seeds.sort_by_key(|one| (choices(one), one.address));
    seeds.into_iter().find_map(|seed| {
        let mut near: Vec<_> = free.iter().copied().filter(|one| direct_links(seed, one) == width).collect();
        near.sort_by_key(|one| (std::cmp::Reverse(Closeness::between(seed, one)), choices(one), one.address));
        let mut chosen = vec![seed];
        complete(&mut chosen, &near, size, width).then_some(chosen)
    })
}

/// Adds candidates until the set has this size. An accelerator has a handful of links, so there is little to try.
fn complete<'a>(chosen: &mut Vec<&'a Accelerator>, candidates: &[&'a Accelerator], size: usize, width: u32) -> bool {
    if chosen.len() == size {
        return true;
    }
    for (position, candidate) in candidates.iter().enumerate() {
        let later = candidates[position + 1..].iter().copied();
        let linked: Vec<_> = later.filter(|one| direct_links(candidate, one) == width).collect();
        if chosen.len() + 1 + linked.len() < size {
            continue;
        }
        chosen.push(candidate);
        if complete(chosen, &linked, size, width) {
            return true;
        }
        chosen.pop();
    }
    false
}
