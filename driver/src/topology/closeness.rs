use crate::Accelerator;
use crate::topology::Fabric;

/// How near two accelerators are, or all that are in two sets: the greater the nearer.
///
/// Of more than one way the shorter counts first: links of their own, then PCIe switches on the way that both share,
/// then the same fabric, then the same NUMA node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Closeness {
    links: u32,
    shared_bridges: usize,
    same_fabric: bool,
    same_numa_node: bool,
}

impl Closeness {
    pub(super) fn between(one: &Accelerator, two: &Accelerator) -> Self {
        let bridges = one.locality.bridges.iter().zip(&two.locality.bridges);
        Self {
            links: direct_links(one, two),
            shared_bridges: bridges.take_while(|(left, right)| left == right).count(),
            same_fabric: match (&one.links.fabric, &two.links.fabric) {
                (Fabric::Member { domain: left, links: few }, Fabric::Member { domain: right, links: many }) => {
                    (left, few) == (right, many)
                }
                _ => false,
            },
            same_numa_node: one.locality.numa_node.is_some() && one.locality.numa_node == two.locality.numa_node,
        }
    }
}

/// The links that go from one to the other. Both ends must say so: one that has lost its driver says nothing.
pub(super) fn direct_links(one: &Accelerator, two: &Accelerator) -> u32 {
    let told = |from: &Accelerator, to: &Accelerator| from.links.peers.get(&to.address).copied().unwrap_or(0);
    told(one, two).min(told(two, one))
}
