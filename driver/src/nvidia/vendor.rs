//! What is said of NVIDIA's GPUs, and of their partitions.

use cdi::ContainerEdits;
use tessera_vocabulary::attributes::{nvidia, portable};
use tessera_vocabulary::{DeviceName, PciAddress, capacities};

use super::{Function, Gpu, device_nodes};
use crate::topology::{FabricDomain, SpanningDomain};
use crate::vfio::{Interface, Passthrough};
use crate::{
    Accelerator, AcceleratorKind, AttributeValue, Attributes, Capacities, Host, Made, Shape, Unavailable, Vendor,
};

/// Of which NVIDIA, as a portable attribute.
pub(super) const VENDOR: &str = "nvidia";

impl Vendor for Gpu {
    fn name(&self, address: PciAddress) -> DeviceName {
        DeviceName::gpu(address)
    }

    fn kind(&self) -> AcceleratorKind {
        AcceleratorKind::Gpu
    }

    fn model(&self) -> &str {
        &self.product_name
    }

    fn uuid(&self) -> &str {
        &self.uuid
    }

    fn attributes(&self) -> Attributes {
        use AttributeValue::Version;
        let mut attributes = Attributes::from([
            (nvidia::TYPE, nvidia::TYPE_GPU.into()),
            (nvidia::UUID, self.uuid.as_str().into()),
            (nvidia::PRODUCT_NAME, self.product_name.as_str().into()),
            (nvidia::BRAND, self.brand.into()),
            (nvidia::ARCHITECTURE, self.architecture.into()),
            (nvidia::CUDA_COMPUTE_CAPABILITY, Version(self.cuda_compute_capability.clone())),
            (nvidia::CUDA_DRIVER_VERSION, Version(self.cuda_driver_version.clone())),
            (portable::VENDOR, VENDOR.into()),
            (portable::KIND, portable::KIND_GPU.into()),
            (portable::MODEL, self.product_name.as_str().into()),
            (portable::FAMILY, self.architecture.to_lowercase().as_str().into()),
        ]);
        if let Some(version) = &self.driver_version {
            attributes.insert(nvidia::DRIVER_VERSION, Version(version.clone()));
        }
        if let Some(mode) = self.addressing_mode {
            attributes.insert(nvidia::ADDRESSING_MODE, mode.to_string().as_str().into());
        }
        attributes
    }

    fn capacities(&self) -> Capacities {
        self.memory_bytes
            .into_iter()
            .flat_map(|bytes| [(capacities::NVIDIA_MEMORY, bytes), (capacities::MEMORY, bytes)])
            .collect()
    }

    fn container_edits(&self, address: PciAddress, host: &Host) -> Result<ContainerEdits, Unavailable> {
        self.nodes_and_files(address, host).map_err(Unavailable::new)
    }

    fn group_attributes(&self, _: &[&Accelerator]) -> Attributes {
        Attributes::from([(nvidia::TYPE, nvidia::TYPE_GROUP.into())])
    }

    /// How many nodes a clique has, nobody tells.
    fn spanning_domain(&self) -> Option<SpanningDomain> {
        let name = FabricDomain(self.clique.clone()?);
        Some(SpanningDomain { name, nodes: None })
    }

    /// Memory of another node's GPU is imported through a channel.
    fn domain_edits(&self, host: &Host) -> ContainerEdits {
        let device_nodes = device_nodes::for_importing(host).into_iter().collect();
        ContainerEdits { device_nodes, ..ContainerEdits::default() }
    }

    fn partition_attributes(&self, whole: Attributes, shape: &Shape, made: Option<&Made>) -> Attributes {
        let mut attributes = whole;
        attributes.remove(nvidia::UUID);
        attributes.insert(nvidia::TYPE, nvidia::TYPE_MIG.into());
        attributes.insert(nvidia::PARENT_UUID, self.uuid.as_str().into());
        attributes.insert(nvidia::PROFILE, shape.name.as_str().into());
        attributes.insert(portable::KIND, portable::KIND_PARTITION.into());
        if let Some(made) = made {
            attributes.insert(nvidia::UUID, made.uuid.as_str().into());
        }
        attributes
    }

    fn partition_capacities(&self, shape: &Shape) -> Capacities {
        let resources = shape.resources;
        Capacities::from([
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

    fn partition_edits(
        &self,
        address: PciAddress,
        shape: &Shape,
        made: &Made,
        host: &Host,
    ) -> Result<ContainerEdits, Unavailable> {
        self.nodes_of_partition(address, shape, made, host).map_err(Unavailable::new)
    }

    fn passthrough_attributes(&self, address: PciAddress, whole: Attributes, facts: &Passthrough) -> Attributes {
        Function.passthrough_attributes(address, whole, facts)
    }

    fn passthrough_capacities(&self, whole: Capacities) -> Capacities {
        Function.passthrough_capacities(whole)
    }

    fn passthrough_edits(&self, interface: &Interface, api_device: bool, host: &Host) -> ContainerEdits {
        Function.passthrough_edits(interface, api_device, host)
    }
}
