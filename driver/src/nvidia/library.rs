use std::path::PathBuf;

use crate::Root;

/// The name by which every driver version installs NVML.
pub(super) const NVML: &str = "libnvidia-ml.so.1";

/// Where distributions and driver containers put the driver's libraries, in the order of NVIDIA's own tools.
/// Those of 32-bit libraries come last.
pub(super) const DIRECTORIES: &[&str] = &[
    "/usr/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu/nvidia/current",
    "/usr/lib/aarch64-linux-gnu/nvidia/current",
    "/lib64",
    "/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib",
    "/lib",
    "/usr/lib/i386-linux-gnu",
    "/usr/lib/i386-linux-gnu/nvidia/current",
    "/usr/lib32",
];

/// Finds NVML below the driver's root. The path is the versioned file's, not the link's: the dynamic loader takes a
/// path that it has loaded before for the same library, and would keep an old driver's after an upgrade.
pub(super) fn find(driver_root: &Root) -> Option<PathBuf> {
    DIRECTORIES
        .iter()
        .map(|directory| driver_root.seen_by_agent(&format!("{directory}/{NVML}")))
        .find(|path| path.exists())
        .map(|path| path.canonicalize().unwrap_or(path))
}
