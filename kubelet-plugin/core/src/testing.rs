//! Small values that the tests of this crate share.

use semver::Version;
use simulated_hardware::Profile;
use tessera_driver::{Accelerator, Discovery, Facts, Locality, Partitioning, Placement, Resources, Shape, nvidia, tpu};
use tessera_vocabulary::{DeviceName, DriverName, PciAddress};

use crate::{
    Allocation, ClaimRef, DeviceLayout, Granted, Identity, Inventory, Layout, Ledger, Loan, Loans, NodeIdentity,
    Offering, Part, Pool, Record, Scope, StoredRecord, Use, plan,
};

/// An H100 on a bus of its own.
pub(crate) fn gpu(bus: u8) -> Accelerator {
    Accelerator {
        address: PciAddress { domain: 0, bus, device: 0, function: 0 },
        partitioning: None,
        passthrough: None,
        locality: Locality { pcie_root: Some(format!("pci0000:{bus:02x}")), numa_node: Some(0), ..Locality::default() },
        links: Default::default(),
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

/// How a model of a simulated machine can be cut, by its tables.
pub(crate) fn partitioning(machine: &str, model: &str) -> Partitioning {
    let shape = |profile: &simulated_hardware::GpuInstanceProfile| Shape {
        id: profile.id,
        name: profile.name.clone(),
        placements: profile.placements().map(|one| Placement { start: one.start, size: one.size }).collect(),
        at_most: profile.max,
        resources: Resources {
            memory_bytes: profile.memory_mib << 20,
            compute_slices: profile.slices,
            multiprocessors: profile.multiprocessors,
            copy_engines: profile.copy_engines,
            decoders: profile.decoders,
            encoders: profile.encoders,
            jpeg_engines: profile.jpeg,
            ofa_engines: profile.ofa,
        },
    };
    let profile = Profile::named(machine).unwrap();
    let shapes = profile.models[model].mig.as_ref().unwrap().profiles.iter().map(shape).collect();
    Partitioning { cut: false, switchable: true, shapes, partitions: Vec::new() }
}

/// An H100 that can be cut.
pub(crate) fn h100(bus: u8) -> Accelerator {
    Accelerator { partitioning: Some(partitioning("dgx-h100", "h100-sxm5-80gb")), ..gpu(bus) }
}

/// The clique of [`member`].
pub(crate) const CLIQUE: &str = "c7d3e2f1-5b64-4a8e-9f10-2d6b8a4c7e35.32766";

/// An H100 that can be cut, in a clique that spans nodes.
pub(crate) fn member(bus: u8) -> Accelerator {
    let mut gpu = h100(bus);
    if let Facts::NvidiaGpu(facts) = &mut gpu.facts {
        facts.clique = Some(CLIQUE.to_owned());
    }
    gpu
}

/// A chip of a v5e host of four, on a bus of its own; `bus` counts from 1.
pub(crate) fn tpu(bus: u8) -> Accelerator {
    let index = u32::from(bus) - 1;
    let facts = Facts::Tpu(Box::new(tpu::Chip {
        generation: tpu::Generation::V5e,
        reach: tpu::Reach::Vfio(index),
        index,
        uuid: format!("00000000-0000-0000-0000-0000000000{bus:02x}"),
        chip_count: 4,
        host: tpu::HostBlock::new(4, None),
        slice: tpu::Slice::default(),
        product_name: "Google TPU v5e".to_owned(),
    }));
    Accelerator { facts, ..gpu(bus) }
}

/// A node that has these.
pub(crate) fn inventory_of(offering: Offering, accelerators: Vec<Accelerator>) -> Inventory {
    let found = Discovery { accelerators, ..Discovery::default() };
    Inventory::new(offering).after(&found, &Default::default())
}

/// A node that has a GPU on each of these buses.
pub(crate) fn gpus(buses: &[u8]) -> Inventory {
    inventory_of(Offering::NOTHING, buses.iter().map(|bus| gpu(*bus)).collect())
}

/// The same, and of the first so many claims may have it at once.
pub(crate) fn gpus_in_shares(buses: &[u8], count: u32) -> Inventory {
    let layout = DeviceLayout { layout: Layout::Shares { count }, policy: "research".to_owned(), change: None };
    gpus(buses).laid_out(&[(gpu(buses[0]).name(), layout)].into())
}

/// That a device is offered with this domain.
pub(crate) fn with_domain(name: &str) -> DeviceLayout {
    DeviceLayout { layout: Layout::Domain { name: name.to_owned() }, policy: "research".to_owned(), change: None }
}

/// A node that has a GPU on each of these buses, all of them offered with their clique.
pub(crate) fn members(buses: &[u8]) -> Inventory {
    let inventory = inventory_of(Offering::NOTHING, buses.iter().map(|bus| member(*bus)).collect());
    inventory.laid_out(&buses.iter().map(|bus| (member(*bus).name(), with_domain(CLIQUE))).collect())
}

pub(crate) fn pool() -> Pool {
    let node = NodeIdentity { name: "node-1".to_owned(), uid: "0b5c0c1e".to_owned() };
    Pool { driver: DriverName::nvidia_gpu(), node }
}

pub(crate) fn claim_ref(uid: &str) -> ClaimRef {
    ClaimRef { namespace: "team".to_owned(), name: "training".to_owned(), uid: uid.parse().unwrap() }
}

pub(crate) fn identity() -> Identity {
    Identity::new(DriverName::nvidia_gpu(), "node-1".to_owned(), "boot".to_owned()).unwrap()
}

/// What a claim that was given one GPU gets.
pub(crate) fn record(uid: &str, bus: u8) -> Record {
    let edits = |_: Part<'_>| Ok(cdi::ContainerEdits { env: vec!["A=b".to_owned()], ..Default::default() });
    plan(&identity(), &claim_ref(uid), &granted(&[allocation("gpu", bus)]), &gpus(&[bus]), &Ledger::default(), edits)
        .unwrap()
}

/// What a claim that was given the clique gets of two GPUs.
pub(crate) fn domain_record(uid: &str) -> Record {
    let edits = |_: Part<'_>| Ok(cdi::ContainerEdits { env: vec!["A=b".to_owned()], ..Default::default() });
    let granted = granted(&[of_domain("rack")]);
    plan(&identity(), &claim_ref(uid), &granted, &members(&[1, 2]), &Ledger::default(), edits).unwrap()
}

/// The ledger with these records in it.
pub(crate) fn ledger<const N: usize>(records: [Record; N]) -> Ledger {
    let mut ledger = Ledger::default();
    records.into_iter().for_each(|record| ledger.insert(StoredRecord::encode(record).unwrap()));
    ledger
}

/// Pods have a GPU by way of the device plugin.
pub(crate) fn loan(bus: u8) -> Loans {
    let gpu = gpu(bus);
    let uses = vec![Use { accelerator: gpu.name(), placement: None }];
    let loan = Loan::new("nvidia.com/gpu".to_owned(), false, uses);
    Loans { units: [(gpu.uuid().to_owned(), loan)].into(), ..Loans::default() }
}

/// One GPU for a request.
pub(crate) fn allocation(request: &str, bus: u8) -> Allocation {
    let request = request.to_owned();
    Allocation {
        scope: Scope::Node,
        full_request: request.clone(),
        request,
        device: gpu(bus).name(),
        share_id: None,
        admin_access: false,
    }
}

/// The clique for a request.
pub(crate) fn of_domain(request: &str) -> Allocation {
    Allocation { scope: Scope::Domain, device: DeviceName::domain(CLIQUE), ..allocation(request, 1) }
}

/// These devices, and no word about their set-up.
pub(crate) fn granted(allocations: &[Allocation]) -> Granted {
    Granted { allocations: allocations.to_vec(), configs: Vec::new() }
}
