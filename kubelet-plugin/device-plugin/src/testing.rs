//! Small machines that the tests of this crate share.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use semver::Version;
use tessera_core::{Inventory, Loans, Offering, Unit};
use tessera_driver::topology::Links;
use tessera_driver::{
    Accelerator, Discovery, Facts, Locality, Made, Partition, Partitioning, Placement, Resources, Shape, nvidia,
};
use tessera_vocabulary::{ExtendedResources, PciAddress};

use crate::{Basis, Offer};

/// No pod has anything without a claim.
pub(crate) static NOBODY: Loans = Loans { grants: 0, units: BTreeMap::new() };

/// All of these, by count.
pub(crate) fn basis<'a>(units: &'a [Unit<'a>], loans: &'a Loans) -> Basis<'a> {
    static NONE: BTreeSet<String> = BTreeSet::new();
    Basis { units, loans, unserved: &NONE, family: ExtendedResources::NVIDIA, by_count: &|_| true }
}

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
            driver_version_text: "570.124.06".to_owned(),
            cuda_driver_version: Version::new(12, 8, 0),
            memory_bytes: Some(40 << 30),
            addressing_mode: None,
            pci_class: Some(0x03_0200),
            clique: None,
            virtual_gpu: nvidia::VirtualGpu::No,
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

/// A line for each resource and problem: the devices without what all ids of GPUs begin with, each with its NUMA node, and a
/// mark where it cannot be had.
pub(crate) fn described(offer: &Offer) -> String {
    let mut text = String::new();
    for (name, resource) in &offer.resources {
        write!(text, "{name}{}:", if resource.one_at_most { " (one at most)" } else { "" }).unwrap();
        for device in &resource.devices {
            let numa = device.numa_node.map(|node| format!("@{node}")).unwrap_or_default();
            write!(text, " {}{numa}{}", device.id, if device.is_healthy() { "" } else { "!" }).unwrap();
        }
        text += "\n";
    }
    for problem in &offer.problems {
        writeln!(text, "problem: {problem}").unwrap();
    }
    text.replace("GPU-00000000-0000-0000-0000-0000000000", "")
}
