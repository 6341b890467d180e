use std::collections::BTreeMap;

use tessera_vocabulary::PciAddress;

use super::generation::PCI_VENDOR;
use super::reach::UnnamedNodes;
use super::slice::{Told, told};
use super::{Chip, Generation, HostBlock, NodeLabels, Reach, Settings};
use crate::topology::{Fabric, FabricDomain, Links};
use crate::{Accelerator, Backend, Discovery, DiscoveryError, Facts, Root, sysfs};

/// The way to Google's TPUs.
pub struct Tpu {
    root: Root,
    settings: Settings,
    labels: NodeLabels,
    /// Every chip that was seen, also one that is gone: what the others are must not change with it.
    known: BTreeMap<PciAddress, Generation>,
}

impl Tpu {
    /// Looks below `root` for `/sys`, `/dev` and what the instance is told. Touches nothing yet.
    pub fn new(root: Root, settings: Settings, labels: NodeLabels) -> Self {
        Self { root, settings, labels, known: BTreeMap::new() }
    }

    fn on_the_bus(&self) -> Result<BTreeMap<PciAddress, Generation>, DiscoveryError> {
        let functions = sysfs::functions(&self.root, PCI_VENDOR)?;
        let number = |address, attribute| sysfs::number(&self.root, address, attribute);
        let generation = |address: PciAddress| {
            let subsystem = number(address, "subsystem_device").unwrap_or_default();
            Some((address, Generation::of(number(address, "device")?, subsystem)?))
        };
        Ok(functions.into_iter().filter_map(generation).collect())
    }

    fn chip(&self, address: PciAddress, generation: Generation, reach: Reach, told: &Told) -> Chip {
        let index = self.known.keys().position(|known| *known == address).unwrap_or_default();
        let name = format!("{}/{address}", self.settings.node);
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Chip {
            generation,
            reach,
            index: number(index),
            uuid: uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_DNS, name.as_bytes()).to_string(),
            chip_count: number(self.known.len()),
            host: HostBlock::new(self.known.len(), told.host),
            slice: told.slice.clone(),
            product_name: format!("Google TPU {generation}"),
        }
    }

    /// All chips of a host are wired to each other.
    fn links(&self, told: &Told) -> Links {
        let lowest = self.known.keys().next().map(|lowest| format!("mesh.{lowest}"));
        let domain = told.slice.name.clone().or(lowest).unwrap_or_default();
        Links { fabric: Fabric::Mesh(FabricDomain(domain)), ..Links::default() }
    }
}

impl Backend for Tpu {
    fn is_present(&self) -> bool {
        self.on_the_bus().map_or(true, |chips| !chips.is_empty())
    }

    fn discover(&mut self) -> Result<Discovery, DiscoveryError> {
        let chips = self.on_the_bus()?;
        if chips.is_empty() && self.known.is_empty() {
            return Ok(Discovery::default());
        }
        self.known.extend(&chips);
        let told = told(&self.root, &self.settings, &self.labels);
        let nodes = UnnamedNodes::find(&self.root, chips.keys().copied());
        let mut found = Discovery {
            on_the_bus: chips.keys().copied().collect(),
            problems: told.problems.clone(),
            ..Discovery::default()
        };
        if HostBlock::new(self.known.len(), told.host).is_none() {
            let count = self.known.len();
            found.problems.push(format!("{count} TPU chips are none that a host has; they are offered one by one"));
        }
        for (address, generation) in chips {
            match Reach::of(&self.root, address, &nodes) {
                Ok(reach) => found.accelerators.push(Accelerator {
                    address,
                    locality: sysfs::locality(&self.root, address),
                    partitioning: None,
                    // VFIO is how a program uses it, not what it is handed over to.
                    passthrough: None,
                    links: self.links(&told),
                    facts: Facts::Tpu(Box::new(self.chip(address, generation, reach, &told))),
                }),
                Err(problem) => found.problems.push(format!("TPU {address}: {problem}")),
            }
        }
        Ok(found)
    }
}
