use std::collections::BTreeMap;

use semver::Version;
use tessera_vocabulary::{DeviceName, PciAddress, attributes::standard};

use crate::{Host, nvidia};

/// A physical accelerator, known by its PCI address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accelerator {
    /// Where it sits. Survives reboots and driver reloads.
    pub address: PciAddress,
    /// What is near it.
    pub locality: Locality,
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
}

/// What a vendor's driver says about an accelerator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Facts {
    /// An NVIDIA GPU.
    NvidiaGpu(nvidia::Gpu),
}

/// The value of a device's attribute, in the types that the Kubernetes API has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttributeValue {
    /// A 64-bit integer.
    Int(i64),
    /// A string of at most 64 bytes.
    String(String),
    /// A version, strict semver 2.0.0.
    Version(Version),
}

impl From<&str> for AttributeValue {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl Accelerator {
    /// The name under which it is published.
    pub fn name(&self) -> DeviceName {
        match &self.facts {
            Facts::NvidiaGpu(_) => DeviceName::gpu(self.address),
        }
    }

    /// Its attributes, by their names in a ResourceSlice.
    pub fn attributes(&self) -> BTreeMap<&'static str, AttributeValue> {
        let mut attributes = match &self.facts {
            Facts::NvidiaGpu(gpu) => gpu.attributes(),
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
        }
    }

    /// What a container that is granted the whole accelerator must see.
    ///
    /// # Errors
    /// When the node lacks what the container needs; the text says what and what to do.
    pub fn container_edits(&self, host: &Host) -> Result<cdi::ContainerEdits, nvidia::MissingNode> {
        match &self.facts {
            Facts::NvidiaGpu(gpu) => gpu.container_edits(self.address, host),
        }
    }
}
