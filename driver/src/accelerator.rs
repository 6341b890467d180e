use cdi::ContainerEdits;
use semver::Version;
use tessera_vocabulary::attributes::standard;
use tessera_vocabulary::{DeviceName, PciAddress};

use crate::topology::{Links, SpanningDomain};
use crate::vendor::{Attributes, Capacities, Unavailable, Vendor};
use crate::vfio::{Interface, Passthrough};
use crate::{AcceleratorKind, Host, Made, Partitioning, Placement, Shape, nvidia, tpu};

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
    /// A chip of Google's.
    Tpu(Box<tpu::Chip>),
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
    /// What its vendor says: the one place that tells vendors apart.
    pub(crate) fn vendor(&self) -> &dyn Vendor {
        match &self.facts {
            Facts::NvidiaGpu(gpu) => gpu.as_ref(),
            Facts::NvidiaFunction => &nvidia::Function,
            Facts::Tpu(chip) => chip.as_ref(),
        }
    }

    /// Whether its driver has told of it, now or before; else no more is known than the bus tells.
    pub fn has_driver_facts(&self) -> bool {
        self.vendor().is_told_by_driver()
    }

    /// The name under which it is published.
    pub fn name(&self) -> DeviceName {
        self.vendor().name(self.address)
    }

    /// What it is, whoever made it.
    pub fn kind(&self) -> AcceleratorKind {
        self.vendor().kind()
    }

    /// The product's name. Accelerators of two models never share a group.
    pub fn model(&self) -> &str {
        self.vendor().model()
    }

    /// What its driver knows it by: the UUID.
    pub fn uuid(&self) -> &str {
        self.vendor().uuid()
    }

    /// Its attributes, by their names in a ResourceSlice.
    pub fn attributes(&self) -> Attributes {
        let mut attributes = self.vendor().attributes();
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
    pub fn capacities(&self) -> Capacities {
        self.vendor().capacities()
    }

    /// The name under which a partition of it is published.
    pub fn partition_name(&self, shape: &Shape, placement: Placement) -> DeviceName {
        self.vendor().partition_name(self.address, shape, placement)
    }

    /// The attributes of a partition of it. `made` is what is known of one that nobody here made, and that is therefore
    /// the same for as long as it is offered.
    pub fn partition_attributes(&self, shape: &Shape, made: Option<&Made>) -> Attributes {
        self.vendor().partition_attributes(self.attributes(), shape, made)
    }

    /// The capacities of a partition of it.
    pub fn partition_capacities(&self, shape: &Shape) -> Capacities {
        self.vendor().partition_capacities(shape)
    }

    /// The name under which it is published to be handed to user space.
    pub fn passthrough_name(&self) -> DeviceName {
        self.vendor().passthrough_name(self.address)
    }

    /// The attributes of the accelerator as user space gets it.
    pub fn passthrough_attributes(&self, passthrough: &Passthrough) -> Attributes {
        self.vendor().passthrough_attributes(self.address, self.attributes(), passthrough)
    }

    /// The capacities of the accelerator as user space gets it.
    pub fn passthrough_capacities(&self) -> Capacities {
        self.vendor().passthrough_capacities(self.capacities())
    }

    /// What a container that is granted the whole accelerator must see.
    ///
    /// # Errors
    /// When the node lacks what the container needs; the text says what and what to do.
    pub fn container_edits(&self, host: &Host) -> Result<ContainerEdits, Unavailable> {
        self.vendor().container_edits(self.address, host)
    }

    /// The fabric domain that it lies in, where that spans nodes.
    pub fn spanning_domain(&self) -> Option<SpanningDomain> {
        self.vendor().spanning_domain()
    }

    /// What a container that is granted the whole accelerator must see, together with all others of its domain, on all of
    /// its nodes.
    ///
    /// # Errors
    /// When the node lacks what the container needs; the text says what and what to do.
    pub fn member_edits(&self, host: &Host) -> Result<ContainerEdits, Unavailable> {
        let mut edits = self.container_edits(host)?;
        edits.append(self.vendor().domain_edits(host));
        Ok(edits)
    }

    /// What a container that is granted a partition of it must see.
    ///
    /// # Errors
    /// When the node lacks what the container needs; the text says what and what to do.
    pub fn partition_edits(&self, shape: &Shape, made: &Made, host: &Host) -> Result<ContainerEdits, Unavailable> {
        self.vendor().partition_edits(self.address, shape, made, host)
    }

    /// What a container needs that reaches it by VFIO; with `api_device` also the node's own IOMMU device, without which a
    /// program must get that by another way.
    pub fn passthrough_edits(&self, interface: &Interface, api_device: bool, host: &Host) -> ContainerEdits {
        self.vendor().passthrough_edits(interface, api_device, host)
    }

    /// What the containers of a claim must see besides, because it was granted all of these as wholes. They are of one
    /// vendor, as all accelerators of a backend are.
    pub fn together(granted: &[&Self]) -> ContainerEdits {
        granted.first().map(|first| first.vendor().together(granted)).unwrap_or_default()
    }
}
