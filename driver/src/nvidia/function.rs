use cdi::ContainerEdits;
use tessera_vocabulary::attributes::{nvidia, portable, standard};
use tessera_vocabulary::{DeviceName, PciAddress, capacities};

use super::PartitionError;
use super::vendor::VENDOR;
use crate::vendor::passthrough_nodes;
use crate::vfio::{Interface, Passthrough};
use crate::{AcceleratorKind, AttributeValue, Attributes, Capacities, Host, Unavailable, Vendor};

/// What of a GPU's attributes is so too while user space has it.
const PASSTHROUGH_ATTRIBUTES: [&str; 5] =
    [nvidia::PRODUCT_NAME, portable::MODEL, standard::PCI_BUS_ID, standard::PCIE_ROOT, standard::NUMA_NODE];

/// A GPU that NVIDIA's driver does not have, and as such what user space gets of any.
pub(crate) struct Function;

impl Vendor for Function {
    fn is_told_by_driver(&self) -> bool {
        false
    }

    fn name(&self, address: PciAddress) -> DeviceName {
        DeviceName::gpu(address)
    }

    fn kind(&self) -> AcceleratorKind {
        AcceleratorKind::Gpu
    }

    fn model(&self) -> &str {
        ""
    }

    fn uuid(&self) -> &str {
        ""
    }

    fn attributes(&self) -> Attributes {
        Attributes::new()
    }

    fn capacities(&self) -> Capacities {
        Capacities::new()
    }

    fn container_edits(&self, address: PciAddress, _: &Host) -> Result<ContainerEdits, Unavailable> {
        Err(Unavailable::new(PartitionError::NoDriver(address)))
    }

    fn passthrough_attributes(&self, address: PciAddress, whole: Attributes, facts: &Passthrough) -> Attributes {
        let mut attributes = whole;
        attributes.retain(|name, _| PASSTHROUGH_ATTRIBUTES.contains(name));
        let hexadecimal = |id: u16| AttributeValue::String(format!("{id:#06x}"));
        // As NVIDIA's own driver makes it: not the GPU's own, which nobody can read while VFIO has it.
        let uuid = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_DNS, address.to_string().as_bytes());
        attributes.extend([
            (nvidia::TYPE, nvidia::TYPE_VFIO.into()),
            (nvidia::UUID, uuid.to_string().as_str().into()),
            (nvidia::DEVICE_ID, hexadecimal(facts.device_id)),
            (nvidia::VENDOR_ID, hexadecimal(facts.vendor_id)),
            (nvidia::IOMMU_FD_ENABLED, AttributeValue::Bool(facts.iommufd)),
            (portable::VENDOR, VENDOR.into()),
            (portable::KIND, portable::KIND_PASSTHROUGH.into()),
        ]);
        // All have them, also one of which the bus alone tells.
        for name in [nvidia::PRODUCT_NAME, portable::MODEL] {
            attributes.entry(name).or_insert_with(|| format!("NVIDIA {:04x}", facts.device_id).as_str().into());
        }
        attributes
    }

    fn passthrough_capacities(&self, whole: Capacities) -> Capacities {
        let memory = whole.get(capacities::MEMORY).copied();
        let both = |bytes| [(capacities::ADDRESSABLE_MEMORY, bytes), (capacities::MEMORY, bytes)];
        memory.into_iter().flat_map(both).collect()
    }

    fn passthrough_edits(&self, interface: &Interface, api_device: bool, host: &Host) -> ContainerEdits {
        ContainerEdits {
            // Keeps a legacy runtime of NVIDIA's off.
            env: vec!["NVIDIA_VISIBLE_DEVICES=void".to_owned()],
            ..passthrough_nodes(interface, api_device, host)
        }
    }
}
