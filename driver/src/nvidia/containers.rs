use cdi::ContainerEdits;
use tessera_vocabulary::PciAddress;

use super::{CapabilityError, Gpu, MigInstance, MissingNode, device_nodes, mig_capabilities};
use crate::{Host, Made, Shape};

impl Gpu {
    /// The device nodes of the GPU at this address and of its driver, and the driver's files.
    pub(super) fn nodes_and_files(&self, address: PciAddress, host: &Host) -> Result<ContainerEdits, MissingNode> {
        let mut edits = self.compute_edits(host)?;
        edits.device_nodes.extend(device_nodes::for_graphics(host, address));
        Ok(edits)
    }

    /// What programs that only compute need of it.
    fn compute_edits(&self, host: &Host) -> Result<ContainerEdits, MissingNode> {
        let device_nodes = device_nodes::for_compute(host, self.minor)?;
        let mut edits = host.nvidia().map(|driver| driver.edits(host.root())).unwrap_or_default();
        edits.device_nodes = device_nodes;
        // A legacy runtime of NVIDIA's would act on this variable of the image; "void" tells it to keep off.
        edits.env.insert(0, "NVIDIA_VISIBLE_DEVICES=void".to_owned());
        Ok(edits)
    }

    /// The same for a MIG device: the GPU's node, and those that stand for the right to use the instance. The nodes for
    /// rendering are the whole GPU's, so only profiles with graphics get them, as NVIDIA's own tools have it.
    pub(super) fn nodes_of_partition(
        &self,
        address: PciAddress,
        shape: &Shape,
        made: &Made,
        host: &Host,
    ) -> Result<ContainerEdits, PartitionError> {
        let mut edits = self.compute_edits(host)?;
        if has_graphics(shape) {
            edits.device_nodes.extend(device_nodes::for_graphics(host, address));
        }
        let instance = MigInstance {
            gpu_minor: self.minor,
            gpu_instance: made.gpu_instance,
            compute_instance: made.compute_instance,
        };
        edits.device_nodes.extend(mig_capabilities(host.root(), instance)?.device_nodes);
        Ok(edits)
    }
}

/// NVIDIA says it in the profile's name: `1g.24gb+gfx`.
fn has_graphics(shape: &Shape) -> bool {
    shape.name.split('+').skip(1).any(|attribute| attribute == "gfx")
}

/// Why a partition cannot be handed to a container.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    /// NVIDIA's driver does not have the GPU.
    #[error("GPU {0} is not with NVIDIA's driver; bind it to that")]
    NoDriver(PciAddress),
    /// The GPU's own node.
    #[error(transparent)]
    Node(#[from] MissingNode),
    /// The nodes of the instance.
    #[error(transparent)]
    Capability(#[from] CapabilityError),
}

#[cfg(test)]
mod tests;
