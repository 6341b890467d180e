//! Small machines that the tests of this crate share.

use semver::Version;
use tessera_core::{Inventory, Offering};
use tessera_driver::topology::Links;
use tessera_driver::{
    Accelerator, Discovery, Facts, Locality, Made, Partition, Partitioning, Placement, Resources, Shape, nvidia,
};
use tessera_vocabulary::PciAddress;

/// An A100 on a bus of its own; those below bus 8 are on one NUMA node, the others on another.
pub(crate) fn gpu(bus: u8) -> Accelerator {
    Accelerator {
        address: PciAddress { bus, ..PciAddress::default() },
        partitioning: None,
        passthrough: None,
        locality: Locality { numa_node: Some(u32::from(bus / 8)), ..Locality::default() },
        links: Links::default(),
        facts: Facts::NvidiaGpu(Box::new(nvidia::Gpu {
            minor: bus.into(),
            uuid: format!("GPU-00000000-0000-0000-0000-0000000000{bus:02x}"),
            product_name: "NVIDIA A100-SXM4-40GB".to_owned(),
            brand: "Nvidia",
            architecture: "Ampere",
            cuda_compute_capability: Version::new(8, 0, 0),
            driver_version: None,
            cuda_driver_version: Version::new(12, 8, 0),
            memory_bytes: Some(40 << 30),
            addressing_mode: None,
        })),
    }
}

/// The same, cut into these, one behind the other.
pub(crate) fn cut(bus: u8, shapes: &[&str]) -> Accelerator {
    let placement = |at: usize| Placement { start: 2 * u32::try_from(at).unwrap(), size: 2 };
    let shape = |(at, name): (usize, &&str)| Shape {
        id: u32::try_from(at).unwrap(),
        name: (*name).to_owned(),
        placements: vec![placement(at)],
        at_most: 1,
        resources: Resources::default(),
    };
    let partition = |at: usize| {
        let number = u32::try_from(at).unwrap();
        let made = Made { gpu_instance: number, compute_instance: 0, uuid: format!("MIG-{bus:02x}-{at}") };
        Partition { shape: number, placement: placement(at), made: Some(made) }
    };
    let partitioning = Partitioning {
        cut: true,
        switchable: false,
        shapes: shapes.iter().enumerate().map(shape).collect(),
        partitions: (0..shapes.len()).map(partition).collect(),
    };
    Accelerator { partitioning: Some(partitioning), ..gpu(bus) }
}

/// A node with these.
pub(crate) fn inventory(offering: Offering, accelerators: Vec<Accelerator>) -> Inventory {
    Inventory::new(offering).after(&Discovery { accelerators, ..Discovery::default() }, &Default::default())
}
