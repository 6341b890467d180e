use std::collections::BTreeMap;

use semver::Version;
use tessera_vocabulary::attributes::{nvidia as vendor, portable, standard};
use tessera_vocabulary::{DeviceName, PciAddress, capacities};

use crate::topology::Links;
use crate::vfio::Passthrough;
use crate::{Host, Made, Partitioning, Placement, Shape, nvidia};

/// What of an accelerator's attributes is so too while user space has it.
const PASSTHROUGH_ATTRIBUTES: [&str; 5] =
    [vendor::PRODUCT_NAME, portable::MODEL, standard::PCI_BUS_ID, standard::PCIE_ROOT, standard::NUMA_NODE];

/// A physical accelerator, known by its PCI address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accelerator {
    /// Where it sits. Survives reboots and driver reloads.
    pub address: PciAddress,
    /// What is near it.
    pub locality: Locality,
    /// How it can be cut. `None` where it cannot.
    pub partitioning: Option<Partitioning>,
    /// What makes it one that can be handed to user space. `None` where it cannot.
    pub passthrough: Option<Passthrough>,
    /// What it is linked to beside PCIe.
    pub links: Links,
    /// What its vendor's driver says about it.
    pub facts: Facts,
}

/// What is near an accelerator, as the kernel tells. Virtual machines often hide both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Locality {
    /// The PCIe root complex, `pci<domain>:<bus>`.
    pub pcie_root: Option<String>,
    /// The NUMA node of the PCI slot.
    pub numa_node: Option<u32>,
    /// The bridges on the way to it, the root port first. Empty right below the root complex, and where it is unknown.
    pub bridges: Vec<PciAddress>,
}

impl Locality {
    /// The PCIe switch next to the root port, by the address of its upstream port. A switch is passed through two
    /// bridges: its upstream port and one of its downstream ports.
    pub fn pcie_switch(&self) -> Option<PciAddress> {
        match self.bridges.as_slice() {
            [_root_port, upstream, _downstream, ..] => Some(*upstream),
            _ => None,
        }
    }
}

/// What a vendor's driver says about an accelerator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Facts {
    /// An NVIDIA GPU.
    NvidiaGpu(Box<nvidia::Gpu>),
    /// An NVIDIA GPU that its driver does not have, so that no more is known of it than the PCI bus tells.
    NvidiaFunction,
}

/// The value of a device's attribute, in the types that the Kubernetes API has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue {
    /// A 64-bit integer.
    Int(i64),
    /// A string of at most 64 bytes.
    String(String),
    /// True or false.
    Bool(bool),
    /// A version, strict semver 2.0.0.
    Version(Version),
}

impl From<&str> for AttributeValue {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl Accelerator {
    /// Whether its driver has told of it, now or before; else no more is known than the bus tells.
    pub fn has_driver_facts(&self) -> bool {
        match self.facts {
            Facts::NvidiaGpu(_) => true,
            Facts::NvidiaFunction => false,
        }
    }

    /// The name under which it is published.
    pub fn name(&self) -> DeviceName {
        match &self.facts {
            Facts::NvidiaGpu(_) | Facts::NvidiaFunction => DeviceName::gpu(self.address),
        }
    }

    /// The product's name. Accelerators of two models never share a group.
    pub fn model(&self) -> &str {
        match &self.facts {
            Facts::NvidiaGpu(gpu) => &gpu.product_name,
            Facts::NvidiaFunction => "",
        }
    }

    /// Its attributes, by their names in a ResourceSlice.
    pub fn attributes(&self) -> BTreeMap<&'static str, AttributeValue> {
        let mut attributes = match &self.facts {
            Facts::NvidiaGpu(gpu) => gpu.attributes(),
            Facts::NvidiaFunction => BTreeMap::new(),
        };
        attributes.insert(standard::PCI_BUS_ID, self.address.to_string().as_str().into());
        if let Some(root) = &self.locality.pcie_root {
            attributes.insert(standard::PCIE_ROOT, root.as_str().into());
        }
        if let Some(node) = self.locality.numa_node {
            attributes.insert(standard::NUMA_NODE, AttributeValue::Int(node.into()));
        }
        attributes
    }

    /// Its capacities, by their names in a ResourceSlice.
    pub fn capacities(&self) -> BTreeMap<&'static str, u64> {
        match &self.facts {
            Facts::NvidiaGpu(gpu) => gpu.capacities(),
            Facts::NvidiaFunction => BTreeMap::new(),
        }
    }

    /// The name under which a partition of it is published.
    pub fn partition_name(&self, shape: &Shape, placement: Placement) -> DeviceName {
        DeviceName::mig(self.address, &shape.name, shape.id, placement.start)
    }

    /// The attributes of a partition of it. `made` is what is known of one that nobody here made, and that is therefore
    /// the same for as long as it is offered.
    pub fn partition_attributes(&self, shape: &Shape, made: Option<&Made>) -> BTreeMap<&'static str, AttributeValue> {
        let mut attributes = self.attributes();
        attributes.remove(vendor::UUID);
        attributes.insert(vendor::TYPE, vendor::TYPE_MIG.into());
        attributes.insert(vendor::PARENT_UUID, self.uuid().into());
        attributes.insert(vendor::PROFILE, shape.name.as_str().into());
        attributes.insert(portable::KIND, portable::KIND_PARTITION.into());
        if let Some(made) = made {
            attributes.insert(vendor::UUID, made.uuid.as_str().into());
        }
        attributes
    }

    /// The capacities of a partition of it.
    pub fn partition_capacities(&self, shape: &Shape) -> BTreeMap<&'static str, u64> {
        let resources = shape.resources;
        BTreeMap::from([
            (capacities::NVIDIA_MEMORY, resources.memory_bytes),
            (capacities::MEMORY, resources.memory_bytes),
            (capacities::MULTIPROCESSORS, resources.multiprocessors.into()),
            (capacities::COPY_ENGINES, resources.copy_engines.into()),
            (capacities::DECODERS, resources.decoders.into()),
            (capacities::ENCODERS, resources.encoders.into()),
            (capacities::JPEG_ENGINES, resources.jpeg_engines.into()),
            (capacities::OFA_ENGINES, resources.ofa_engines.into()),
        ])
    }

    /// What its driver knows it by: the UUID.
    pub fn uuid(&self) -> &str {
        match &self.facts {
            Facts::NvidiaGpu(gpu) => &gpu.uuid,
            Facts::NvidiaFunction => "",
        }
    }

    /// The name under which it is published to be handed to user space.
    pub fn passthrough_name(&self) -> DeviceName {
        DeviceName::vfio(self.address)
    }

    /// The attributes of the accelerator as user space gets it.
    pub fn passthrough_attributes(&self, passthrough: &Passthrough) -> BTreeMap<&'static str, AttributeValue> {
        let own = self.attributes();
        let mut attributes: BTreeMap<_, _> =
            own.into_iter().filter(|(name, _)| PASSTHROUGH_ATTRIBUTES.contains(name)).collect();
        let hexadecimal = |id: u16| AttributeValue::String(format!("{id:#06x}"));
        // As NVIDIA's own driver makes it: not the GPU's own, which nobody can read while VFIO has it.
        let uuid = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_DNS, self.address.to_string().as_bytes());
        attributes.extend([
            (vendor::TYPE, vendor::TYPE_VFIO.into()),
            (vendor::UUID, uuid.to_string().as_str().into()),
            (vendor::DEVICE_ID, hexadecimal(passthrough.device_id)),
            (vendor::VENDOR_ID, hexadecimal(passthrough.vendor_id)),
            (vendor::IOMMU_FD_ENABLED, AttributeValue::Bool(passthrough.iommufd)),
            (portable::VENDOR, "nvidia".into()),
            (portable::KIND, portable::KIND_PASSTHROUGH.into()),
        ]);
        // All have them, also one of which the bus alone tells.
        for name in [vendor::PRODUCT_NAME, portable::MODEL] {
            attributes.entry(name).or_insert_with(|| format!("NVIDIA {:04x}", passthrough.device_id).as_str().into());
        }
        attributes
    }

    /// The capacities of the accelerator as user space gets it.
    pub fn passthrough_capacities(&self) -> BTreeMap<&'static str, u64> {
        let memory = self.capacities().get(capacities::MEMORY).copied();
        let both = |bytes| [(capacities::ADDRESSABLE_MEMORY, bytes), (capacities::MEMORY, bytes)];
        memory.into_iter().flat_map(both).collect()
    }

    /// What a container that is granted a partition of it must see.
    ///
    /// # Errors
    /// When the node lacks what the container needs; the text says what and what to do.
    pub fn partition_edits(&self, made: &Made, host: &Host) -> Result<cdi::ContainerEdits, nvidia::PartitionError> {
        match &self.facts {
            Facts::NvidiaGpu(gpu) => gpu.partition_edits(self.address, made, host),
            Facts::NvidiaFunction => Err(nvidia::PartitionError::NoDriver(self.address)),
        }
    }

    /// What a container that is granted the whole accelerator must see.
    ///
    /// # Errors
    /// When the node lacks what the container needs; the text says what and what to do.
    pub fn container_edits(&self, host: &Host) -> Result<cdi::ContainerEdits, nvidia::PartitionError> {
        match &self.facts {
            Facts::NvidiaGpu(gpu) => Ok(gpu.container_edits(self.address, host)?),
            Facts::NvidiaFunction => Err(nvidia::PartitionError::NoDriver(self.address)),
        }
    }
}
