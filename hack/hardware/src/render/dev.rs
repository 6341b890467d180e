//! `dev/`: the device nodes.
//!
//! They are virtual terminals (major 4), which open without side effects for root and are not among the devices that a
//! container may open unasked, so the kernel's device cgroup can be seen to work. NVIDIA's own majors (195 and dynamic
//! ones) have no driver here. Minor 63 is the last terminal; 20 and up are in no one's use.

use super::tree::{Content, Entry};
use crate::bus::Function;
use crate::hardware::{Fabric, Hardware};

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

/// Terminal of the channel by which memory of other nodes' GPUs is imported: that of a GPU which no machine with such a fabric
/// has, and the last that no MIG capability gets.
const CHANNEL: u32 = FIRST_GPU + 15;

/// Whether the machine's driver has made a channel at its start, as it does where `NVreg_CreateImexChannel0` says so: here on
/// each machine whose fabric spans nodes.
pub(super) fn has_channel(hardware: &Hardware) -> bool {
    let mut fabrics = hardware.gpus.iter().filter_map(|gpu| gpu.fabric.as_ref());
    hardware.has_driver() && fabrics.any(Fabric::spans_nodes)
}

pub(super) fn files(hardware: &Hardware) -> Vec<Entry> {
    let gpus = hardware.gpus.iter().filter(|gpu| gpu.present);
    let gpus = gpus.map(|gpu| (format!("nvidia{}", gpu.minor), FIRST_GPU + gpu.minor));
    let shared = SHARED.iter().filter(|_| hardware.has_driver()).map(|(name, minor)| ((*name).to_owned(), *minor));
    let channel = has_channel(hardware).then(|| ("nvidia-caps-imex-channels/channel0".to_owned(), CHANNEL));
    let nodes = gpus.chain(shared).chain(channel).chain(others(hardware));
    nodes.map(|(name, minor)| Entry::new(format!("dev/{name}"), Content::Device(minor))).collect()
}

/// Terminal of the first TPU: those from here on are GPUs' of which there are many, or whose number was set.
const FIRST_TPU: u32 = 32;
/// Terminal of the first function that is no accelerator and that VFIO has, and of `/dev/vfio/vfio`.
const FIRST_OTHER: u32 = 40;
const VFIO: u32 = 43;

/// The nodes of TPUs, and of whatever else VFIO has.
fn others(hardware: &Hardware) -> Vec<(String, u32)> {
    let tpus = (FIRST_TPU..FIRST_OTHER).zip(&hardware.tpus).filter(|(_, tpu)| tpu.present && tpu.driver.is_some());
    let tpus = tpus.map(|(terminal, tpu)| {
        let directory = if tpu.is_vfio() { "vfio/" } else { "accel" };
        (format!("{directory}{}", tpu.number), terminal)
    });
    let functions = (FIRST_OTHER..VFIO).zip(hardware.functions.iter().filter_map(Function::vfio_group));
    let mut nodes: Vec<_> =
        tpus.chain(functions.map(|(terminal, group)| (format!("vfio/{group}"), terminal))).collect();
    if nodes.iter().any(|(name, _)| name.starts_with("vfio/")) {
        nodes.push(("vfio/vfio".to_owned(), VFIO));
    }
    nodes
}

/// Whether a terminal stands for something that is no GPU.
pub(crate) fn is_of_no_gpu(hardware: &Hardware, terminal: u32) -> bool {
    !hardware.tpus.is_empty() && (FIRST_TPU..=VFIO).contains(&terminal)
}
