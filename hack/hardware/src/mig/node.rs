//! Numbers for the device nodes of MIG capabilities.
//!
//! The real driver numbers every capability that there could ever be (135 a GPU), in a major of its own. Here they are
//! terminals, as all device nodes of a simulated machine (see `render/dev.rs`), and there are 63 terminals; so a number
//! is given to an instance when it is made and taken back when it is destroyed. Who reads `DeviceFileMinor`, as one
//! must, sees no difference: file, name and node agree.

use crate::hardware::Hardware;
use crate::render::{FIRST_GPU, MAX_MINOR, is_of_no_gpu};

/// Terminal of `mig/config`.
pub(crate) const CONFIG: u32 = 56;

/// Terminal of `mig/monitor`.
pub(crate) const MONITOR: u32 = 57;

/// When all terminals are in use: numbers behind all that the kernel's terminals and serial ports have. Such a node
/// exists and a device cgroup can allow it, but to open it fails: with EPERM where the cgroup says no, and otherwise
/// with ENXIO. 29 instances have nodes that open; that is 14 MIG devices, a whole GPU cut into seven and another one.
const FIRST_WITHOUT_DRIVER: u32 = 1000;

/// A number for an instance that is about to be made.
pub(super) fn free(hardware: &Hardware) -> u32 {
    let own = (58..=63).chain(13..=19);
    // Terminals of GPUs that the machine does not have, from behind, where a GPU hardly ever comes.
    let spare = (16..=MAX_MINOR).rev().map(|minor| FIRST_GPU + minor);
    let taken_by_gpu = |node: &u32| hardware.gpus.iter().any(|gpu| FIRST_GPU + gpu.minor == *node);
    let without_driver = FIRST_WITHOUT_DRIVER..;
    own.chain(spare.filter(|node| !taken_by_gpu(node)))
        .chain(without_driver)
        .find(|node| is_free(hardware, *node))
        .unwrap_or(FIRST_WITHOUT_DRIVER)
}

/// Whether no instance has this number, and nothing that is no GPU.
pub(crate) fn is_free(hardware: &Hardware, node: u32) -> bool {
    let mut instances = hardware.gpus.iter().flat_map(|gpu| &gpu.mig.gpu_instances);
    !is_of_no_gpu(hardware, node)
        && instances.all(|one| one.node != node && one.compute_instances.iter().all(|compute| compute.node != node))
}
