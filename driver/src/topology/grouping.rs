use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use tessera_vocabulary::PciAddress;

use super::closeness::direct_links;
use super::doubling::doubled;
use super::group::{Group, GroupKind};
use super::islands::{Island, IslandTie, islands};
use super::place::{by_model, places};
use crate::Accelerator;

/// The groups that a node offers, in the order in which they should be listed.
///
/// Where the vendor says which sets can be used together ([`GroupKind::Mesh`]), those; else it is found here what is near.
///
/// Twice, the accelerators of a model are put together two and two, then four and four, then eight: once inside what links
/// tie ([`GroupKind::Fabric`], [`GroupKind::Links`]), once inside a NUMA node, or a PCIe switch where no NUMA node is
/// known. Each time the nearest come together first, so that groups of a fabric follow switches and NUMA nodes, and each
/// time a larger group is made of two smaller ones. So there are fewer than two groups an accelerator, not every
/// combination. A group that comes out both times is offered once, named after its strongest tie. Groups overlap; what
/// keeps two from being handed out at once is that they use their members' counters.
///
/// # Order
/// The scheduler takes the first device that fits and looks no further, so the order is the policy. Single accelerators
/// are listed by address, so they fill a node from its front. Therefore:
/// - Small groups come before large ones: who asks for "at least" is not given more.
/// - Of one size the strongest tie comes first: who does not care is given the best.
/// - Of one kind a group that is part of no larger one comes first, since it breaks none; then those that are part of one,
///   by the address of the largest one: what is broken already is used up before the next is broken.
/// - In what is left the later one comes first: the second half of a quad before its first half, where single
///   accelerators go. What lives long and what does not then keep apart, and a quad is whole again when its pair ends.
///
/// Give it lost accelerators too, as they were last seen, and leave out the groups that hold one afterwards: else the
/// loss of one changes which others belong together.
pub fn groups<'a>(accelerators: impl IntoIterator<Item = &'a Accelerator>) -> Vec<Group> {
    let accelerators: Vec<&Accelerator> = accelerators.into_iter().collect();
    let places = places(accelerators.iter().copied());
    let mut groups = Vec::new();
    for model in by_model(accelerators).values() {
        if let Some(blocks) = model.first().and_then(|first| first.vendor().blocks(model)) {
            groups.extend(blocks.iter().map(|block| Group::new(GroupKind::Mesh, &members(model, block), &places)));
            continue;
        }
        let islands = islands(model);
        let linked = islands.iter().map(|island| island.members.clone());
        let sets: BTreeSet<Vec<PciAddress>> =
            linked.chain(neighbourhoods(model)).flat_map(|cell| doubled(&cell)).map(|set| sorted(&set)).collect();
        for addresses in sets {
            let members = members(model, &addresses);
            groups.push(Group::new(strongest_tie(&members, &islands), &members, &places));
        }
    }
    in_order(groups)
}

/// By address, as the model's accelerators are.
fn members<'a>(model: &[&'a Accelerator], addresses: &[PciAddress]) -> Vec<&'a Accelerator> {
    model.iter().copied().filter(|one| addresses.contains(&one.address)).collect()
}

/// Accelerators of a NUMA node; of a PCIe switch where the kernel knows no NUMA node.
fn neighbourhoods<'a>(model: &[&'a Accelerator]) -> Vec<Vec<&'a Accelerator>> {
    let mut cells: BTreeMap<_, Vec<&Accelerator>> = BTreeMap::new();
    for one in model {
        let switch = if one.locality.numa_node.is_none() { one.locality.pcie_switch() } else { None };
        if one.locality.numa_node.is_some() || switch.is_some() {
            cells.entry((one.locality.numa_node, switch)).or_default().push(one);
        }
    }
    cells.into_values().collect()
}

/// The members share at least a neighbourhood: that is where sets come from.
fn strongest_tie(members: &[&Accelerator], islands: &[Island<'_>]) -> GroupKind {
    let of_island = |island: &Island<'_>| {
        let inside = |one: &&Accelerator| island.members.iter().any(|member| member.address == one.address);
        matches!(island.tie, IslandTie::Switched(_)) && members.iter().all(inside)
    };
    let pairs = || members.iter().enumerate().flat_map(|(at, one)| members[at + 1..].iter().map(move |two| (one, two)));
    let links: BTreeSet<u32> = pairs().map(|(one, two)| direct_links(one, two)).collect();
    let switches: BTreeSet<_> = members.iter().map(|one| one.locality.pcie_switch()).collect();
    if islands.iter().any(of_island) {
        GroupKind::Fabric
    } else if links.len() == 1 && !links.contains(&0) {
        GroupKind::Links
    } else if switches.len() == 1 && !switches.contains(&None) {
        GroupKind::PcieSwitch
    } else {
        GroupKind::NumaNode
    }
}

fn sorted(set: &[&Accelerator]) -> Vec<PciAddress> {
    let mut addresses: Vec<_> = set.iter().map(|one| one.address).collect();
    addresses.sort_unstable();
    addresses
}

fn in_order(mut groups: Vec<Group>) -> Vec<Group> {
    // The strongest of the groups that could be a parent counts.
    groups.sort_by(|one, two| (one.kind, &one.members).cmp(&(two.kind, &two.members)));
    let members: Vec<Vec<PciAddress>> = groups.iter().map(|group| group.members.clone()).collect();
    let mut keyed: Vec<_> = groups
        .into_iter()
        .map(|group| {
            let parents = parents(&group.members, &members);
            let key = (group.members.len(), group.kind, parents.len(), parents, Reverse(group.members.clone()));
            (key, group)
        })
        .collect();
    keyed.sort_by(|(one, _), (two, _)| one.cmp(two));
    keyed.into_iter().map(|(_, group)| group).collect()
}

/// The first members of the groups that a group is part of, the largest group first.
fn parents(members: &[PciAddress], groups: &[Vec<PciAddress>]) -> Vec<PciAddress> {
    let parent = groups.iter().find(|other| {
        other.len() == 2 * members.len() && members.iter().all(|member| other.binary_search(member).is_ok())
    });
    parent.map_or_else(Vec::new, |parent| {
        let mut all = parents(parent, groups);
        all.extend(parent.first());
        all
    })
}
