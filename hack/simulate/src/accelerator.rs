use semver::Version;
use tessera_driver::{Accelerator, Facts, Locality, Partitioning, nvidia};
use tessera_vocabulary::PciAddress;

/// A GPU on a bus of its own, as its driver would tell of it.
pub(crate) fn accelerator(bus: u8, partitioning: Option<Partitioning>) -> Accelerator {
    Accelerator {
        partitioning,
        passthrough: None,
        links: Default::default(),
        address: PciAddress { domain: 0, bus, device: 0, function: 0 },
        locality: Locality { numa_node: Some(0), ..Locality::default() },
        facts: Facts::NvidiaGpu(Box::new(nvidia::Gpu {
            minor: bus.into(),
            uuid: format!("GPU-00000000-0000-0000-0000-0000000000{bus:02x}"),
            product_name: "NVIDIA H100 80GB HBM3".to_owned(),
            brand: "Nvidia",
            architecture: "Hopper",
            cuda_compute_capability: Version::new(9, 0, 0),
            driver_version: Some(Version::new(570, 124, 6)),
            cuda_driver_version: Version::new(12, 8, 0),
            memory_bytes: Some(85_520_809_984),
            addressing_mode: None,
        })),
    }
}
