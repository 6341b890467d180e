use cdi::ContainerEdits;
use tessera_vocabulary::PciAddress;

use super::{Gpu, MissingNode, device_nodes};
use crate::Host;

impl Gpu {
    /// The device nodes of the GPU at this address and of its driver, and the driver's files.
    pub(crate) fn container_edits(&self, address: PciAddress, host: &Host) -> Result<ContainerEdits, MissingNode> {
        let device_nodes = device_nodes::of_gpu(host, self.minor, address)?;
        let mut edits = host.nvidia().map(|driver| driver.edits(host.root())).unwrap_or_default();
        edits.device_nodes = device_nodes;
        // A legacy runtime of NVIDIA's would act on this variable of the image; "void" tells it to keep off.
        edits.env.insert(0, "NVIDIA_VISIBLE_DEVICES=void".to_owned());
        Ok(edits)
    }
}

#[cfg(test)]
mod tests;
