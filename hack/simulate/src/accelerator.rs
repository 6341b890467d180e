use semver::Version;
use tessera_driver::topology::{Fabric, FabricDomain, Links};
use tessera_driver::{Accelerator, Facts, Locality, Partitioning, nvidia};
use tessera_vocabulary::PciAddress;

/// What ties the GPUs of a machine to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tie {
    /// All are on one NUMA node.
    NumaNode,
    /// NVSwitches, as on an HGX board; its halves are on two NUMA nodes.
    Switches,
    /// Links from each to each of four.
    Quads,
    /// A PCIe switch for each two; each four are on a NUMA node.
    PcieSwitches,
}

/// A GPU on a bus of its own, as its driver would tell of it.
pub(crate) fn accelerator(bus: u8, partitioning: Option<Partitioning>, tie: Tie) -> Accelerator {
    Accelerator {
        partitioning,
        passthrough: None,
        links: links(bus, tie),
        address: address(bus),
        locality: locality(bus, tie),
        facts: Facts::NvidiaGpu(Box::new(nvidia::Gpu {
            minor: bus.into(),
            uuid: format!("GPU-00000000-0000-0000-0000-0000000000{bus:02x}"),
            product_name: "NVIDIA H100 80GB HBM3".to_owned(),
            brand: "Nvidia",
            architecture: "Hopper",
            cuda_compute_capability: Version::new(9, 0, 0),
            driver_version: Some(Version::new(570, 124, 6)),
            driver_version_text: "570.124.06".to_owned(),
            cuda_driver_version: Version::new(12, 8, 0),
            memory_bytes: Some(85_520_809_984),
            addressing_mode: None,
            pci_class: Some(0x03_0200),
            clique: None,
            virtual_gpu: nvidia::VirtualGpu::No,
        })),
    }
}

fn address(bus: u8) -> PciAddress {
    PciAddress { domain: 0, bus, device: 0, function: 0 }
}

fn locality(bus: u8, tie: Tie) -> Locality {
    let numa_node = if tie == Tie::NumaNode { 0 } else { u32::from(bus / 4) };
    let port = |device| PciAddress { domain: 1, bus: 0x80 + bus / 2, device, function: 0 };
    let bridges = if tie == Tie::PcieSwitches { vec![port(0), port(1), port(2 + bus % 2)] } else { Vec::new() };
    Locality { numa_node: Some(numa_node), bridges, ..Locality::default() }
}

fn links(bus: u8, tie: Tie) -> Links {
    match tie {
        Tie::NumaNode | Tie::PcieSwitches => Links::default(),
        Tie::Switches => Links {
            fabric: Fabric::Member { domain: FabricDomain("nvswitch.0000:c0:00.0".to_owned()), links: 18 },
            ..Links::default()
        },
        Tie::Quads => {
            let quad = bus / 4 * 4;
            let others = (quad..quad + 4).filter(|other| *other != bus);
            Links { peers: others.map(|other| (address(other), 4)).collect(), ..Links::default() }
        }
    }
}
