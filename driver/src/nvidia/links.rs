use std::collections::BTreeMap;

use tessera_nvml::{FabricInfo, FabricState, FarEnd, GpuLinks};
use tessera_vocabulary::PciAddress;

use crate::topology::{Fabric, FabricDomain, Links};

/// What NVML's facts about a GPU's NVLinks come to.
pub(super) fn links(told: &GpuLinks) -> Links {
    let ends = || told.active.iter().map(|link| &link.far_end);
    let mut peers = BTreeMap::new();
    for peer in ends().filter_map(|end| if let FarEnd::Gpu(address) = end { address.parse().ok() } else { None }) {
        *peers.entry(peer).or_insert(0) += 1;
    }
    let switches: Vec<Option<PciAddress>> = ends()
        .filter_map(|end| if let FarEnd::Switch(address) = end { Some(address) } else { None })
        .map(|address| address.as_deref().and_then(|address| address.parse().ok()))
        .collect();
    let fabric = match &told.fabric {
        // A GPU that is no member reaches no other through the switches, whatever its links say.
        Some(FabricInfo { state: FabricState::NotStarted | FabricState::InProgress, .. }) if !switches.is_empty() => {
            Fabric::Forming
        }
        Some(FabricInfo { state: FabricState::Failed(_), .. }) if !switches.is_empty() => Fabric::Failed,
        _ if switches.is_empty() => Fabric::None,
        fabric => Fabric::Member {
            domain: domain(fabric.as_ref(), &switches),
            links: u32::try_from(switches.len()).unwrap_or(u32::MAX),
        },
    };
    Links { fabric, peers }
}

/// The domain of a GPU that has links to these switches.
///
/// A cluster has a UUID, and what its cliques are is the fabric manager's word. Without one the domain ends with the
/// node, and all that a clique says is 0: the switches tell then, where the host sees them. A GPU is linked to all
/// switches of its board, so the lowest address names them. Where the host sees none (NVLink 5, virtual machines) there
/// is one domain: a virtual machine is given one partition of the switches.
fn domain(fabric: Option<&FabricInfo>, switches: &[Option<PciAddress>]) -> FabricDomain {
    let lowest = switches.iter().flatten().min();
    FabricDomain(match (fabric.and_then(of_cluster), lowest) {
        (Some(clique), _) => clique,
        (None, Some(switch)) => format!("nvswitch.{switch}"),
        (None, None) => format!("nvswitch.{}", fabric.map_or(0, |fabric| fabric.clique)),
    })
}

/// The clique of a fabric that spans nodes in which a GPU is a member, as NVIDIA's own tools write it.
pub(super) fn clique(told: &GpuLinks) -> Option<String> {
    told.fabric.as_ref().filter(|fabric| fabric.state == FabricState::Completed).and_then(of_cluster)
}

/// `None` where the domain ends with the node.
fn of_cluster(fabric: &FabricInfo) -> Option<String> {
    (fabric.cluster != [0; 16]).then(|| format!("{}.{}", uuid(fabric.cluster), fabric.clique))
}

/// As NVIDIA's own driver writes it, 8-4-4-4-12.
fn uuid(bytes: [u8; 16]) -> String {
    let digits = format!("{:032x}", u128::from_be_bytes(bytes));
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use tessera_nvml::NvLink;

    use super::*;

    fn told(ends: &[FarEnd], fabric: Option<FabricInfo>) -> GpuLinks {
        let active = (0..).zip(ends).map(|(number, far_end)| NvLink { number, far_end: far_end.clone() }).collect();
        GpuLinks { active, fabric }
    }

    fn switch(address: &str) -> FarEnd {
        FarEnd::Switch(Some(address.to_owned()))
    }

    #[test]
    fn what_ties_a_gpu_to_switches() {
        let seen = [switch("00000000:C5:00.0"), switch("00000000:C4:00.0")];
        let hidden = [switch("fffffff:ffff:ff"), FarEnd::Switch(None)];
        let info = |cluster: u128, clique, state| Some(FabricInfo { cluster: cluster.to_be_bytes(), clique, state });
        let member = |domain: &str| Fabric::Member { domain: FabricDomain(domain.to_owned()), links: 2 };
        let rack = 0xc7d3e2f1_5b64_4a8e_9f10_2d6b8a4c7e35;
        use FabricState::{Completed, Failed, InProgress, NotStarted};
        for (ends, fabric, expected) in [
            (seen.as_slice(), None, member("nvswitch.0000:c4:00.0")),
            (&seen, info(0, 0, Completed), member("nvswitch.0000:c4:00.0")),
            (&seen, info(rack, 7, Completed), member("c7d3e2f1-5b64-4a8e-9f10-2d6b8a4c7e35.7")),
            (&hidden, info(rack, 7, Completed), member("c7d3e2f1-5b64-4a8e-9f10-2d6b8a4c7e35.7")),
            (&hidden, info(0, 3, Completed), member("nvswitch.3")),
            (&hidden, None, member("nvswitch.0")),
            (&hidden, info(0, 0, NotStarted), Fabric::Forming),
            (&seen, info(0, 0, InProgress), Fabric::Forming),
            (&seen, info(0, 0, Failed(999)), Fabric::Failed),
            (&[], info(0, 0, Completed), Fabric::None),
            (&[], info(0, 0, NotStarted), Fabric::None),
            (&[FarEnd::Other], None, Fabric::None),
        ] {
            assert_eq!(links(&told(ends, fabric.clone())).fabric, expected, "{ends:?} {fabric:?}");
        }
    }

    #[test]
    fn a_clique_is_of_a_cluster_that_has_admitted_the_gpu() {
        let info = |cluster: u128, state| Some(FabricInfo { cluster: cluster.to_be_bytes(), clique: 7, state });
        let rack = 0xc7d3e2f1_5b64_4a8e_9f10_2d6b8a4c7e35;
        for (fabric, expected) in [
            (None, None),
            (info(0, FabricState::Completed), None),
            (info(rack, FabricState::InProgress), None),
            (info(rack, FabricState::Failed(999)), None),
            // Also of a GPU whose links rest, as in MIG mode.
            (info(rack, FabricState::Completed), Some("c7d3e2f1-5b64-4a8e-9f10-2d6b8a4c7e35.7")),
        ] {
            assert_eq!(clique(&told(&[], fabric.clone())).as_deref(), expected, "{fabric:?}");
        }
    }

    #[test]
    fn links_to_peers_are_counted() {
        let gpu = |address: &str| FarEnd::Gpu(address.to_owned());
        let ends =
            [gpu("00000000:3B:00.0"), gpu("00000000:5E:00.0"), gpu("00000000:3B:00.0"), gpu("what"), FarEnd::Other];
        let found = links(&told(&ends, None));
        assert_eq!(found.fabric, Fabric::None);
        let peers: Vec<_> = found.peers.iter().map(|(peer, links)| (peer.to_string(), *links)).collect();
        assert_eq!(peers, [("0000:3b:00.0".to_owned(), 2), ("0000:5e:00.0".to_owned(), 1)]);
        assert_eq!(links(&GpuLinks::default()), Links::default());
    }
}
