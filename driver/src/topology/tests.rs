use std::collections::BTreeSet;

use proptest::prelude::*;

use super::testing::{below_switch, gpu, gpus, in_fabric, link, link_all, on_node, words};
use super::{FabricKind, groups, places};
use crate::Accelerator;

/// Eight GPUs on a board with switches, four a NUMA node.
fn board() -> Vec<Accelerator> {
    gpus(8).into_iter().zip(0..).map(|(gpu, at)| on_node(in_fabric(gpu, "nvswitch", 12), at / 4)).collect()
}

fn of(gpus: &[Accelerator]) -> Vec<String> {
    words(&groups(gpus))
}

#[test]
fn a_board_with_switches_is_halved_and_halved_again() {
    assert_eq!(
        of(&board()),
        [
            "fabric 2+3",
            "fabric 0+1",
            "fabric 6+7",
            "fabric 4+5",
            "fabric 4+5+6+7",
            "fabric 0+1+2+3",
            "fabric 0+1+2+3+4+5+6+7"
        ]
    );
}

#[test]
fn groups_of_a_fabric_follow_the_numa_nodes_and_switches_they_can() {
    // Every other GPU on the other node, and the switches join 0 and 6, 2 and 4.
    let mut gpus: Vec<_> =
        gpus(8).into_iter().zip(0..).map(|(gpu, at)| on_node(in_fabric(gpu, "f", 12), at % 2)).collect();
    for (at, switch) in [(0, 0), (6, 0), (2, 1), (4, 1)] {
        gpus[at] = below_switch(gpus[at].clone(), switch);
    }
    let found: BTreeSet<_> = of(&gpus).into_iter().collect();
    for expected in ["fabric 0+6", "fabric 2+4", "fabric 1+3", "fabric 5+7", "fabric 0+2+4+6", "fabric 1+3+5+7"] {
        assert!(found.contains(expected), "{expected}: {found:?}");
    }
    assert_eq!(found.len(), 7);
}

#[test]
fn a_broken_link_to_a_switch_breaks_only_that_tie() {
    let mut gpus = board();
    gpus[2] = on_node(in_fabric(gpu(2), "nvswitch", 11), 0);
    let found = of(&gpus);
    assert!(found.iter().all(|group| !group.starts_with("fabric") || !group.contains('2')), "{found:?}");
    // Its neighbours on the node are still that.
    assert!(found.contains(&"numaNode 0+1+2+3".to_owned()), "{found:?}");
    assert!(found.contains(&"fabric 4+5+6+7".to_owned()) && found.contains(&"fabric 0+1".to_owned()), "{found:?}");
    let places = places(&gpus);
    assert_eq!(places[&gpus[2].address].fabric_domain, "0000:02:00.0");
    assert_eq!(places[&gpus[2].address].fabric_kind, FabricKind::None);
    assert_eq!(places[&gpus[3].address].fabric_domain, "nvswitch");
}

#[test]
fn sixteen_over_two_domains() {
    let domain = |at: u32| if at < 8 { "left" } else { "right" };
    let gpus: Vec<_> =
        gpus(16).into_iter().zip(0..).map(|(gpu, at)| on_node(in_fabric(gpu, domain(at), 18), at / 4)).collect();
    let found = groups(&gpus);
    assert_eq!(found.len(), 14);
    for group in &found {
        let sides: BTreeSet<_> = group.members.iter().map(|one| one.bus < 8).collect();
        assert_eq!(sides.len(), 1, "{group:?}");
    }
    // The quads of the first octet come before those of the second, and the later octet before the first.
    let large: Vec<_> =
        found.iter().filter(|group| group.members.len() > 2).map(|group| group.members[0].bus).collect();
    assert_eq!(large, [4, 0, 12, 8, 8, 0]);
}

/// What the scheduler does: the first of the list whose members are free. Single GPUs are listed by address.
#[test]
fn first_fit_keeps_large_groups_whole() {
    let gpus: Vec<_> = gpus(16)
        .into_iter()
        .zip(0..)
        .map(|(gpu, at)| on_node(in_fabric(gpu, if at < 8 { "left" } else { "right" }, 18), at / 4))
        .collect();
    let groups = groups(&gpus);
    let mut taken = BTreeSet::new();
    let mut take = |size: usize| -> Vec<u8> {
        let singles = gpus.iter().map(|gpu| vec![gpu.address.bus]);
        let many = groups.iter().map(|group| group.members.iter().map(|one| one.bus).collect::<Vec<_>>());
        let fits = |one: &Vec<u8>| one.len() == size && one.iter().all(|bus| !taken.contains(bus));
        let chosen = singles.chain(many).find(fits).unwrap();
        taken.extend(chosen.iter().copied());
        chosen
    };
    assert_eq!(take(1), [0]);
    // All into the octet that the single one has broken, the pair into its quad.
    assert_eq!(take(2), [2, 3]);
    assert_eq!(take(4), [4, 5, 6, 7]);
    assert_eq!(take(8), [8, 9, 10, 11, 12, 13, 14, 15]);
    assert_eq!(take(1), [1]);
}

#[test]
fn four_that_are_linked_each_with_each() {
    let mut gpus = gpus(4);
    link_all(&mut gpus, &[0, 1, 2, 3], 4);
    assert_eq!(of(&gpus), ["links 2+3", "links 0+1", "links 0+1+2+3"]);
    let domains: BTreeSet<_> = places(&gpus).into_values().map(|place| place.fabric_domain).collect();
    assert_eq!(domains.into_iter().collect::<Vec<_>>(), ["direct.0000:00:00.0"]);
}

#[test]
fn a_broken_link_between_two_leaves_the_pairs_that_are_whole() {
    for left in [0, 3] {
        let mut gpus = gpus(4);
        link_all(&mut gpus, &[0, 1, 2, 3], 4);
        link(&mut gpus, 0, 1, left);
        assert_eq!(of(&gpus), ["links 1+3", "links 0+2"], "{left} links left");
    }
    // One end says it is down already, the other does not yet.
    let mut gpus = gpus(2);
    link(&mut gpus, 0, 1, 4);
    gpus[1].links.peers.clear();
    assert_eq!(of(&gpus), [""; 0]);
}

#[test]
fn pairs_by_bridge_on_switches_and_nodes() {
    // Bridges across the switches.
    let switch = [0, 0, 1, 1, 2, 2, 3, 3];
    let mut gpus: Vec<_> =
        gpus(8).into_iter().zip(switch).map(|(gpu, at)| on_node(below_switch(gpu, at), u32::from(at) / 2)).collect();
    for (one, two) in [(0, 2), (1, 3), (4, 6), (5, 7)] {
        link(&mut gpus, one, two, 12);
    }
    let found = of(&gpus);
    // Those by bridge first, each in a quad of a NUMA node.
    assert_eq!(found[..4], ["links 1+3", "links 0+2", "links 5+7", "links 4+6"]);
    assert!(found.contains(&"numaNode 0+1+2+3".to_owned()) && found.contains(&"numaNode 4+5+6+7".to_owned()));
}

#[test]
fn odd_numbers_of_directly_linked() {
    for (count, pairs, quads) in [(3, 1, 0), (5, 2, 1), (6, 3, 1), (7, 3, 1)] {
        let mut gpus = gpus(count);
        link_all(&mut gpus, &(0..count.into()).collect::<Vec<_>>(), 2);
        let found = groups(&gpus);
        let sizes = |size| found.iter().filter(|group| group.members.len() == size).count();
        assert_eq!((sizes(2), sizes(4)), (pairs, quads), "{count}");
        let domains: BTreeSet<_> = places(&gpus).into_values().map(|place| place.fabric_domain).collect();
        assert_eq!(domains.len(), 1, "{count}: each is linked with each");
    }
}

/// DGX-1 with V100: two links to some, one to others, none to the rest.
#[test]
fn a_cube_mesh_gives_pairs_of_double_links_and_quads_by_node() {
    let mut gpus: Vec<_> = gpus(8).into_iter().zip(0..).map(|(gpu, at)| on_node(gpu, at / 4)).collect();
    for (one, two) in [(0, 3), (0, 4), (1, 2), (1, 5), (2, 3), (4, 7), (5, 6), (6, 7)] {
        link(&mut gpus, one, two, 2);
    }
    for (one, two) in [(0, 1), (0, 2), (1, 3), (2, 6), (3, 7), (4, 5), (4, 6), (5, 7)] {
        link(&mut gpus, one, two, 1);
    }
    let found = of(&gpus);
    assert_eq!(found.iter().filter(|group| group.starts_with("links")).count(), 4, "{found:?}");
    assert!(found.contains(&"links 0+3".to_owned()) && found.contains(&"numaNode 0+1+2+3".to_owned()), "{found:?}");
}

#[test]
fn without_numa_nodes_a_switch_still_ties() {
    let gpus: Vec<_> = gpus(4).into_iter().zip([0, 0, 1, 1]).map(|(gpu, at)| below_switch(gpu, at)).collect();
    assert_eq!(of(&gpus), ["pcieSwitch 2+3", "pcieSwitch 0+1"]);
    assert_eq!(of(&super::testing::gpus(8)), [""; 0], "nothing is known, so nothing is offered");
}

#[test]
fn models_never_mix() {
    let mut gpus = board();
    for gpu in &mut gpus[4..] {
        let crate::Facts::NvidiaGpu(facts) = &mut gpu.facts else { unreachable!() };
        facts.product_name = "NVIDIA A100-SXM4-80GB".to_owned();
        gpu.locality.numa_node = Some(0);
    }
    let found = groups(&gpus);
    assert!(found.iter().all(|group| group.members.iter().map(|one| one.bus < 4).collect::<BTreeSet<_>>().len() == 1));
    assert_eq!(found.len(), 6);
}

/// Any machine: NUMA nodes, switches, fabrics and links at random.
fn machine() -> impl Strategy<Value = Vec<Accelerator>> {
    let one = (prop::option::of(0..3u32), prop::option::of(0..4u8), prop::option::of((0..2u8, 17..19u32)));
    let links = prop::collection::vec((0..16usize, 0..16usize, 1..3u32), 0..40);
    (prop::collection::vec(one, 1..17), links).prop_map(|(rows, links)| {
        let gpus = (0..).zip(&rows).map(|(bus, (node, switch, fabric))| {
            let mut gpu = gpu(bus);
            if let Some(node) = node {
                gpu = on_node(gpu, *node);
            }
            if let Some(switch) = switch {
                gpu = below_switch(gpu, *switch);
            }
            if let Some((domain, links)) = fabric {
                gpu = in_fabric(gpu, &format!("fabric-{domain}"), *links);
            }
            gpu
        });
        let mut gpus: Vec<Accelerator> = gpus.collect();
        let count = gpus.len();
        for (one, two, width) in links {
            if one % count != two % count {
                link(&mut gpus, one % count, two % count, width);
            }
        }
        gpus
    })
}

proptest! {
    #[test]
    fn any_order_gives_the_same(gpus in machine().prop_flat_map(|gpus| (Just(gpus.clone()), Just(gpus).prop_shuffle()))) {
        let (gpus, shuffled) = gpus;
        prop_assert_eq!(groups(&gpus), groups(&shuffled));
        prop_assert_eq!(places(&gpus), places(&shuffled));
    }

    #[test]
    fn groups_are_few_distinct_and_sound(gpus in machine()) {
        let found = groups(&gpus);
        prop_assert!(found.len() < 2 * gpus.len());
        let names: BTreeSet<_> = found.iter().map(super::Group::name).collect();
        prop_assert_eq!(names.len(), found.len());
        let places = places(&gpus);
        for group in &found {
            prop_assert!([2, 4, 8].contains(&group.members.len()) && group.members.is_sorted());
            let members: Vec<_> = gpus.iter().filter(|gpu| group.members.contains(&gpu.address)).collect();
            prop_assert_eq!(members.len(), group.members.len());
            let same = |word: &dyn Fn(&Accelerator) -> String| members.iter().all(|one| word(one) == word(members[0]));
            let sound = match group.kind {
                // Of vendors that say so themselves.
                super::GroupKind::Mesh => false,
                super::GroupKind::Fabric => same(&|one| format!("{:?}", one.links.fabric)),
                super::GroupKind::Links => {
                    let widths: BTreeSet<_> = members.iter().flat_map(|one| {
                        let others = group.members.iter().filter(|other| **other != one.address);
                        others.map(|other| one.links.peers.get(other).copied()).collect::<Vec<_>>()
                    }).collect();
                    widths.len() == 1 && !widths.contains(&None)
                }
                super::GroupKind::PcieSwitch => same(&|one| places[&one.address].pcie_switch.clone()),
                super::GroupKind::NumaNode => same(&|one| one.locality.numa_node.unwrap().to_string()),
            };
            prop_assert!(sound, "{:?}", group);
        }
    }
}
