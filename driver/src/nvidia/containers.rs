use std::path::PathBuf;

use cdi::{ContainerEdits, DeviceNode};

use super::Gpu;
use crate::Root;

/// The nodes that every CUDA program opens besides its GPU's own. Each is handed out where the node has it:
/// nvidia-uvm appears when its module is loaded, nvidia-modeset only with the display stack.
const COMMON_NODES: &[&str] = &["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"];

/// The GPU's device node is not there.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} does not exist; load the driver, or let nvidia-modprobe make the node", .0.display())]
pub struct MissingNode(PathBuf);

impl Gpu {
    /// The device nodes of the GPU and of its driver. No permission to make nodes is ever given ("rw", not "rwm").
    pub(crate) fn container_edits(&self, root: &Root) -> Result<ContainerEdits, MissingNode> {
        let own = format!("/dev/nvidia{}", self.minor);
        let seen = root.seen_by_agent(&own);
        if !seen.exists() {
            return Err(MissingNode(seen));
        }
        let common =
            COMMON_NODES.iter().map(|path| (*path).to_owned()).filter(|path| root.seen_by_agent(path).exists());
        Ok(ContainerEdits {
            // A legacy runtime of NVIDIA's would act on this variable of the image; "void" tells it to keep off.
            env: vec!["NVIDIA_VISIBLE_DEVICES=void".to_owned()],
            device_nodes: std::iter::once(own).chain(common).map(|path| node(root, path)).collect(),
            ..ContainerEdits::default()
        })
    }
}

fn node(root: &Root, path: String) -> DeviceNode {
    let on_host = root.seen_by_runtime(&path).to_string_lossy().into_owned();
    DeviceNode {
        // Left out where it is the same: a spec without it is read by older runtimes too.
        host_path: (on_host != path).then_some(on_host),
        permissions: Some("rw".to_owned()),
        path,
        ..DeviceNode::default()
    }
}
