//! Whether NVIDIA's driver has a GPU. NVML knows no other: one that was handed to VFIO is not counted.

use std::fs;
use std::path::Path;

use simulated_hardware::state_file::StateFile;
use simulated_hardware::{Gpu, SYSFS_BELOW_KERNEL};

/// Without a simulated kernel (`simulated-sysfs`) nobody can take a GPU from the driver.
pub(crate) fn has_driver(state: &StateFile, gpu: &Gpu) -> bool {
    let Some(root) = state.path().parent().filter(|root| root.join(SYSFS_BELOW_KERNEL).is_dir()) else { return true };
    let driver = fs::read_link(root.join(format!("sys/bus/pci/devices/{}/driver", gpu.pci)));
    driver.is_ok_and(|target| target.file_name() == Path::new("nvidia").file_name())
}
