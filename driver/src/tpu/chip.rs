use cdi::ContainerEdits;
use tessera_vocabulary::attributes::{google, portable};
use tessera_vocabulary::{DeviceName, PciAddress, capacities};

use super::{Generation, HostBlock, Reach, Slice, environment, host_block};
use crate::topology::{FabricDomain, SpanningDomain};
use crate::{Accelerator, AcceleratorKind, AttributeValue, Attributes, Capacities, Facts, Host, Unavailable, Vendor};

/// What is known of a TPU chip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chip {
    /// What it is.
    pub generation: Generation,
    /// How a program reaches it. May change when its driver is reloaded.
    pub reach: Reach,
    /// Its place in the order of the host's chips, which is that of their addresses; libtpu counts so.
    pub index: u32,
    /// A UUID.
    pub uuid: String,
    /// How many chips the host has, those among them that are broken now.
    pub chip_count: u32,
    /// The block that they form. `None` where that is not known.
    pub host: Option<HostBlock>,
    /// The slice that they are a part of.
    pub slice: Slice,
    /// "Google TPU v5e".
    pub product_name: String,
}

impl Chip {
    /// What is said of a chip and of a group of chips alike.
    fn common(&self) -> Attributes {
        let count = AttributeValue::Int(self.chip_count.into());
        // The same on all of the host's, also where nobody says: CEL fails on what is absent.
        let told = |word: Option<String>| AttributeValue::String(word.unwrap_or_else(|| google::UNKNOWN.to_owned()));
        Attributes::from([
            (google::TPU_GEN, self.generation.to_string().as_str().into()),
            (google::BRAND, google::BRAND_GOOGLE.into()),
            (google::CHIP_COUNT, count),
            (google::ACCELERATOR, told(self.slice.accelerator.clone())),
            (google::TOPOLOGY, told(self.slice.topology.as_ref().map(ToString::to_string))),
            (portable::VENDOR, "google".into()),
            (portable::KIND, portable::KIND_TPU.into()),
            (portable::MODEL, self.product_name.as_str().into()),
            (portable::FAMILY, self.generation.to_string().as_str().into()),
        ])
    }

    /// What is said of a set of this host's chips, by their numbers.
    fn set(&self, type_: &'static str, chips: &[u32]) -> Attributes {
        let whole = self.host.is_some_and(|host| host.form(chips) == Some(host.bounds()));
        let shape = host_block::shape(self.generation, self.host, chips).unwrap_or_default();
        Attributes::from([
            (google::TYPE, type_.into()),
            (google::SHAPE, shape.as_str().into()),
            (google::WHOLE_HOST, AttributeValue::Bool(whole)),
        ])
    }
}

impl Vendor for Chip {
    fn name(&self, address: PciAddress) -> DeviceName {
        DeviceName::tpu(address)
    }

    fn kind(&self) -> AcceleratorKind {
        AcceleratorKind::Tpu
    }

    fn model(&self) -> &str {
        &self.product_name
    }

    fn uuid(&self) -> &str {
        &self.uuid
    }

    fn attributes(&self) -> Attributes {
        let mut attributes = self.common();
        attributes.extend(self.set(google::TYPE_CHIP, &[self.index]));
        attributes.insert(google::INDEX, AttributeValue::Int(self.index.into()));
        attributes.insert(google::UUID, self.uuid.as_str().into());
        if let Some(host) = self.host {
            let coordinates = host.bounds().coordinates(self.index);
            attributes.insert(google::COORDINATES, coordinates.to_string().as_str().into());
        }
        attributes
    }

    fn capacities(&self) -> Capacities {
        let bytes = self.generation.memory_bytes();
        Capacities::from([
            (capacities::GOOGLE_MEMORY, bytes),
            (capacities::MEMORY, bytes),
            (capacities::TENSOR_CORES, self.generation.tensor_cores().into()),
        ])
    }

    fn container_edits(&self, _: PciAddress, host: &Host) -> Result<ContainerEdits, Unavailable> {
        let device_nodes = self.reach.device_nodes(host).map_err(Unavailable::new)?;
        // What a device may reach by VFIO is locked.
        let lifting = matches!(self.reach, Reach::Vfio(_)).then(|| host.lifting_locked_memory()).flatten();
        Ok(ContainerEdits { device_nodes, hooks: lifting.into_iter().collect(), ..ContainerEdits::default() })
    }

    fn together(&self, granted: &[&Accelerator]) -> ContainerEdits {
        ContainerEdits { env: environment::environment(&chips(granted)), ..ContainerEdits::default() }
    }

    /// Sub-blocks of the host that libtpu can use, and the host.
    fn blocks(&self, model: &[&Accelerator]) -> Option<Vec<Vec<PciAddress>>> {
        let address = |index: &u32| {
            let found = model.iter().find(|one| matches!(&one.facts, Facts::Tpu(chip) if chip.index == *index));
            found.map(|one| one.address)
        };
        // Of a block that lacks a chip there is nothing to offer.
        let block = |block: Vec<u32>| block.iter().map(address).collect::<Option<Vec<_>>>();
        Some(self.host.map(HostBlock::blocks).unwrap_or_default().into_iter().filter_map(block).collect())
    }

    /// The slice, where it has several hosts.
    fn spanning_domain(&self) -> Option<SpanningDomain> {
        let name = FabricDomain(self.slice.name.clone()?);
        let hosts = self.slice.hosts(self.chip_count).filter(|hosts| *hosts > 1)?;
        Some(SpanningDomain { name, nodes: Some(hosts) })
    }

    fn group_attributes(&self, members: &[&Accelerator]) -> Attributes {
        let mut numbers: Vec<u32> = chips(members).iter().map(|chip| chip.index).collect();
        numbers.sort_unstable();
        self.set(google::TYPE_GROUP, &numbers)
    }
}

fn chips<'a>(accelerators: &[&'a Accelerator]) -> Vec<&'a Chip> {
    let chip = |one: &&'a Accelerator| if let Facts::Tpu(chip) = &one.facts { Some(chip.as_ref()) } else { None };
    accelerators.iter().filter_map(chip).collect()
}
