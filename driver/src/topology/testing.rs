//! Machines in a few words, for the tests of this module.

use semver::Version;
use tessera_vocabulary::PciAddress;

use super::{Fabric, FabricDomain, Group, Links};
use crate::{Accelerator, Facts, Locality, nvidia};

/// The GPU on this bus, tied to nothing.
pub(super) fn gpu(bus: u8) -> Accelerator {
    Accelerator {
        partitioning: None,
        passthrough: None,
        address: address(bus),
        locality: Locality::default(),
        links: Links::default(),
        facts: Facts::NvidiaGpu(Box::new(nvidia::Gpu {
            minor: bus.into(),
            uuid: format!("GPU-00000000-0000-0000-0000-0000000000{bus:02x}"),
            product_name: "NVIDIA A100-SXM4-40GB".to_owned(),
            brand: "Nvidia",
            architecture: "Ampere",
            cuda_compute_capability: Version::new(8, 0, 0),
            driver_version: None,
            driver_version_text: String::new(),
            cuda_driver_version: Version::new(12, 8, 0),
            memory_bytes: Some(40 << 30),
            addressing_mode: None,
            pci_class: Some(0x03_0200),
            clique: None,
            virtual_gpu: nvidia::VirtualGpu::No,
        })),
    }
}

pub(super) fn gpus(count: u8) -> Vec<Accelerator> {
    (0..count).map(gpu).collect()
}

fn address(bus: u8) -> PciAddress {
    PciAddress { bus, ..PciAddress::default() }
}

pub(super) fn on_node(mut gpu: Accelerator, node: u32) -> Accelerator {
    gpu.locality.numa_node = Some(node);
    gpu
}

/// Below a switch: behind its upstream and a downstream port of its own.
pub(super) fn below_switch(mut gpu: Accelerator, switch: u8) -> Accelerator {
    let port = |device| PciAddress { bus: 0x80 + switch, device, ..PciAddress::default() };
    gpu.locality.bridges = vec![port(0), port(1), PciAddress { function: 1, ..gpu.address }];
    gpu
}

pub(super) fn in_fabric(mut gpu: Accelerator, domain: &str, links: u32) -> Accelerator {
    gpu.links.fabric = Fabric::Member { domain: FabricDomain(domain.to_owned()), links };
    gpu
}

/// Links between two GPUs, given by their positions.
pub(super) fn link(gpus: &mut [Accelerator], one: usize, two: usize, links: u32) {
    for (from, to) in [(one, two), (two, one)] {
        let to = gpus[to].address;
        gpus[from].links.peers.insert(to, links);
    }
}

/// Each with each.
pub(super) fn link_all(gpus: &mut [Accelerator], members: &[usize], links: u32) {
    for (position, one) in members.iter().enumerate() {
        members[position + 1..].iter().for_each(|two| link(gpus, *one, *two, links));
    }
}

/// Groups as `links 0+1`, members by their buses.
pub(super) fn words(groups: &[Group]) -> Vec<String> {
    let group = |group: &Group| {
        let members: Vec<_> = group.members.iter().map(|one| one.bus.to_string()).collect();
        format!("{} {}", group.kind, members.join("+"))
    };
    groups.iter().map(group).collect()
}
