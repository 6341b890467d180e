use std::collections::{BTreeMap, BTreeSet};

use semver::Version;
use tessera_nvml::{CallError, GpuFacts, Library, Versions};
use tessera_vocabulary::PciAddress;

use super::{Gpu, Session, VirtualGpu, cutting, links};
use crate::topology::Links;
use crate::version::strict;
use crate::{Accelerator, Backend, Discovery, DiscoveryError, Facts, Partitioning, Root, Shape, sysfs, vfio};

/// NVIDIA's PCI vendor id, and the class of displays and 3D controllers (bridges and audio functions are others).
const PCI_VENDOR: u16 = 0x10de;
const PCI_CLASS: &str = "0x03";

/// Whether the bus shows a GPU, whoever has it; also where the bus cannot be read. Loads nothing.
pub fn is_on_the_bus(root: &Root) -> bool {
    sysfs::devices(root, PCI_VENDOR, PCI_CLASS).map_or(true, |devices| !devices.is_empty())
}

/// The way to NVIDIA's GPUs.
pub struct Nvidia {
    root: Root,
    session: Session,
    /// What GPUs can be cut into, by UUID: that stays, and takes dozens of calls to learn.
    shapes: BTreeMap<String, Vec<Shape>>,
    /// Which GPUs a hypervisor made, and of which PCI class each is: that stays too, also while one leaves the bus and the
    /// driver does not know yet.
    virtual_gpus: BTreeMap<PciAddress, VirtualGpu>,
    classes: BTreeMap<PciAddress, u32>,
}

impl Nvidia {
    /// Looks below `root` for `/sys`. Touches nothing yet.
    pub fn new(root: Root, session: Session) -> Self {
        Self { root, session, shapes: BTreeMap::new(), virtual_gpus: BTreeMap::new(), classes: BTreeMap::new() }
    }

    fn look(
        &mut self,
        on_the_bus: BTreeSet<PciAddress>,
        with_driver: &BTreeSet<PciAddress>,
    ) -> Result<Discovery, DiscoveryError> {
        let session = self.session.clone();
        session.with(with_driver, |library| {
            let versions = library.versions()?;
            let mut found = Discovery { on_the_bus, ..Discovery::default() };
            for (index, gpu) in library.gpus()?.into_iter().enumerate() {
                let read = gpu.and_then(|facts| Ok((self.partitioning(library, &facts)?, facts)));
                let read = read.map_err(|error| error.to_string());
                match read.and_then(|(partitioning, facts)| self.accelerator(facts, partitioning, &versions, library)) {
                    Ok(accelerator) => found.accelerators.push(accelerator),
                    Err(problem) => found.problems.push(format!("GPU {index}: {problem}")),
                }
            }
            let known: BTreeSet<_> = found.accelerators.iter().map(|accelerator| accelerator.address).collect();
            let unknown = found.on_the_bus.difference(&known).filter(|address| vfio::is_bound(&self.root, **address));
            found.accelerators.extend(unknown.map(|address| Accelerator {
                address: *address,
                locality: sysfs::locality(&self.root, *address),
                partitioning: None,
                passthrough: vfio::passthrough(&self.root, *address),
                links: Links::default(),
                facts: Facts::NvidiaFunction,
            }));
            found.accelerators.sort_by_key(|accelerator| accelerator.address);
            Ok(found)
        })
    }

    fn partitioning(&mut self, library: &Library, facts: &GpuFacts) -> Result<Option<Partitioning>, CallError> {
        let known = self.shapes.get(&facts.uuid).cloned();
        let gpu = library.mig_gpu(&facts.uuid)?;
        let partitioning = cutting::partitioning(&gpu, known)?;
        if let Some(partitioning) = &partitioning {
            self.shapes.insert(facts.uuid.clone(), partitioning.shapes.clone());
        }
        Ok(partitioning)
    }

    fn accelerator(
        &mut self,
        facts: GpuFacts,
        partitioning: Option<Partitioning>,
        versions: &Versions,
        library: &Library,
    ) -> Result<Accelerator, String> {
        let address = facts.pci_bus_id.parse().map_err(|error| format!("NVML's PCI address: {error}"))?;
        let (major, minor) = facts.compute_capability;
        let pci_class = self.classes.get(&address).copied().or_else(|| sysfs::class(&self.root, address));
        self.classes.extend(pci_class.map(|class| (address, class)));
        let told = library.links(&facts.uuid);
        let virtual_gpu = self.virtual_gpus.entry(address).or_insert_with(|| VirtualGpu::at(&self.root, address));
        let gpu = Gpu {
            minor: facts.minor,
            uuid: facts.uuid,
            product_name: facts.name,
            brand: facts.brand,
            architecture: facts.architecture,
            cuda_compute_capability: Version::new(major.into(), minor.into(), 0),
            driver_version: strict(&versions.driver),
            driver_version_text: versions.driver.clone(),
            cuda_driver_version: Version::new(versions.cuda.0.into(), versions.cuda.1.into(), 0),
            memory_bytes: facts.memory_bytes,
            addressing_mode: facts.addressing_mode,
            pci_class,
            clique: links::clique(&told),
            virtual_gpu: virtual_gpu.clone(),
        };
        let locality = sysfs::locality(&self.root, address);
        let passthrough = vfio::passthrough(&self.root, address);
        let links = links::links(&told);
        Ok(Accelerator { address, locality, partitioning, passthrough, links, facts: Facts::NvidiaGpu(Box::new(gpu)) })
    }
}

impl Backend for Nvidia {
    fn is_present(&self) -> bool {
        // Where the bus is hidden, as from some virtual machines, the driver tells.
        is_on_the_bus(&self.root) || self.session.is_installed()
    }

    /// An error closes NVML, and so does a change on the bus: a reloaded driver and a new GPU are found that way.
    fn discover(&mut self) -> Result<Discovery, DiscoveryError> {
        let on_the_bus = sysfs::devices(&self.root, PCI_VENDOR, PCI_CLASS)?;
        // NVML counts the GPUs that its driver has when it is opened.
        let with_driver = on_the_bus.iter().filter(|address| !vfio::is_bound(&self.root, **address)).copied().collect();
        self.session.close_unless(&with_driver);
        self.look(on_the_bus, &with_driver).inspect_err(|_| {
            self.session.close();
            self.shapes.clear();
            self.virtual_gpus.clear();
            self.classes.clear();
        })
    }
}
