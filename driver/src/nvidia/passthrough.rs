//! What passthrough has to know of NVIDIA's driver.

use std::fs;

use tessera_vocabulary::PciAddress;

use crate::Root;

/// The node that whoever works with a GPU has open, as the kernel driver tells it: `/dev/nvidia<minor>`. Sysfs does not
/// know it. `None` while the driver does not have the GPU.
pub fn holding_node(root: &Root, gpu: PciAddress) -> Option<String> {
    let path = root.seen_by_agent(&format!("/proc/driver/nvidia/gpus/{gpu}/information"));
    let text = fs::read_to_string(path).ok()?;
    let minor = text.lines().find_map(|line| line.strip_prefix("Device Minor:"))?.trim();
    minor.parse::<u32>().ok().map(|minor| format!("/dev/nvidia{minor}"))
}
