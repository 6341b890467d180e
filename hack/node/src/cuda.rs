use std::fs;
use std::os::unix::fs::symlink;

use anyhow::{Context, Result};
use simulated_hardware::Machine;

/// What the simulated NVML is called inside, and what CUDA's library is.
const NVML: &[u8] = b"libnvidia-ml.so.1\0";
const CUDA: &[u8] = b"libcuda.so.1\0";

/// Puts a `libcuda.so.1` beside a machine's NVML. Only where that is does the agent hand a driver's files to containers. It
/// is NVML under another name: a library that a loader takes, and nothing that computes.
pub(crate) fn install(machine: &Machine) -> Result<()> {
    let nvml = machine.library();
    if !nvml.exists() {
        // No GPU of NVIDIA's, and so no driver.
        return Ok(());
    }
    let mut library = fs::read(&nvml).with_context(|| format!("reading {}", nvml.display()))?;
    // The first is that in the dynamic section's strings, which come before all data.
    let at = library.windows(NVML.len()).position(|window| window == NVML);
    let at = at.with_context(|| format!("{} has another name inside", nvml.display()))?;
    library[at..at + CUDA.len()].copy_from_slice(CUDA);

    let versioned = format!("libcuda.so.{}", machine.hardware()?.driver.version);
    let path = nvml.with_file_name(&versioned);
    fs::write(&path, library).with_context(|| format!("writing {}", path.display()))?;
    let link = nvml.with_file_name("libcuda.so.1");
    symlink(&versioned, &link).with_context(|| format!("linking {}", link.display()))
}
