//! `dev/`: the device nodes.
//!
//! They are virtual terminals (major 4), which open without side effects for root and are not among the devices that a
//! container may open unasked, so the kernel's device cgroup can be seen to work. NVIDIA's own majors (195 and dynamic
//! ones) have no driver here. Minor 63 is the last terminal; 20 and up are in no one's use.

use super::tree::{Content, Entry};
use crate::hardware::Hardware;

/// The kernel's major number of the terminals.
pub(super) const MAJOR: u32 = 4;

/// Terminal of `/dev/nvidia0`.
pub(crate) const FIRST_GPU: u32 = 20;

/// Highest minor number a GPU can have here. Terminals 52 to 55 are those below, what is left is for the nodes of MIG
/// capabilities.
pub(crate) const MAX_MINOR: u32 = 31;

/// The nodes that are there once, with their terminals.
const SHARED: [(&str, u32); 4] =
    [("nvidiactl", 52), ("nvidia-uvm", 53), ("nvidia-uvm-tools", 54), ("nvidia-modeset", 55)];

pub(super) fn files(hardware: &Hardware) -> Vec<Entry> {
    let gpus = hardware.gpus.iter().filter(|gpu| gpu.present);
    let gpus = gpus.map(|gpu| (format!("nvidia{}", gpu.minor), FIRST_GPU + gpu.minor));
    let shared = SHARED.iter().map(|(name, minor)| ((*name).to_owned(), *minor));
    gpus.chain(shared).map(|(name, minor)| Entry::new(format!("dev/{name}"), Content::Device(minor))).collect()
}
