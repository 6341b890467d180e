use std::collections::BTreeSet;

use semver::Version;
use tessera_nvml::{GpuFacts, Library, Versions};
use tessera_vocabulary::PciAddress;

use super::{Gpu, library};
use crate::version::strict;
use crate::{Accelerator, Backend, Discovery, DiscoveryError, Facts, Root, sysfs};

/// NVIDIA's PCI vendor id, and the class of displays and 3D controllers (bridges and audio functions are others).
const PCI_VENDOR: &str = "0x10de";
const PCI_CLASS: &str = "0x03";

/// The way to NVIDIA's GPUs.
pub struct Nvidia {
    root: Root,
    driver_root: Root,
    session: Option<Session>,
}

/// NVML and the GPUs that were on the bus when it was opened: NVML counts GPUs only then.
struct Session {
    library: Library,
    on_the_bus: BTreeSet<PciAddress>,
}

impl Nvidia {
    /// Looks below `root` for `/sys`, and below `driver_root` for the driver's library: they differ where a container
    /// installs the driver (`/run/nvidia/driver`). Touches nothing yet.
    pub fn new(root: Root, driver_root: Root) -> Self {
        Self { root, driver_root, session: None }
    }

    fn open(&self, on_the_bus: BTreeSet<PciAddress>) -> Result<Session, DiscoveryError> {
        let path = library::find(&self.driver_root).ok_or_else(|| DiscoveryError::NoDriver {
            library: library::NVML,
            root: self.driver_root.seen_by_agent("/").display().to_string(),
        })?;
        Ok(Session { library: Library::open(&path)?, on_the_bus })
    }

    fn accelerator(&self, facts: GpuFacts, versions: &Versions) -> Result<Accelerator, String> {
        let address = facts.pci_bus_id.parse().map_err(|error| format!("NVML's PCI address: {error}"))?;
        let (major, minor) = facts.compute_capability;
        let gpu = Gpu {
            minor: facts.minor,
            uuid: facts.uuid,
            product_name: facts.name,
            brand: facts.brand,
            architecture: facts.architecture,
            cuda_compute_capability: Version::new(major.into(), minor.into(), 0),
            driver_version: strict(&versions.driver),
            cuda_driver_version: Version::new(versions.cuda.0.into(), versions.cuda.1.into(), 0),
            memory_bytes: facts.memory_bytes,
            addressing_mode: facts.addressing_mode,
        };
        Ok(Accelerator { address, locality: sysfs::locality(&self.root, address), facts: Facts::NvidiaGpu(gpu) })
    }
}

impl Backend for Nvidia {
    /// An error closes NVML, and so does a change on the bus: a reloaded driver and a new GPU are found that way.
    fn discover(&mut self) -> Result<Discovery, DiscoveryError> {
        let on_the_bus = sysfs::devices(&self.root, PCI_VENDOR, PCI_CLASS);
        let session = match self.session.take().filter(|session| session.on_the_bus == on_the_bus) {
            Some(session) => session,
            None => self.open(on_the_bus.clone())?,
        };
        let versions = session.library.versions()?;
        let mut found = Discovery { on_the_bus, ..Discovery::default() };
        for (index, gpu) in session.library.gpus()?.into_iter().enumerate() {
            match gpu.map_err(|error| error.to_string()).and_then(|facts| self.accelerator(facts, &versions)) {
                Ok(accelerator) => found.accelerators.push(accelerator),
                Err(problem) => found.problems.push(format!("GPU {index}: {problem}")),
            }
        }
        found.accelerators.sort_by_key(|accelerator| accelerator.address);
        self.session = Some(session);
        Ok(found)
    }
}
