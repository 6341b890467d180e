//! Whether a process has a device node open: what a driver's usage count tells a real kernel.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// The device number behind a node; `None` if there is none.
pub(crate) fn device_number(node: &Path) -> Option<u64> {
    fs::metadata(node).ok().filter(|data| data.file_type().is_char_device()).map(|data| data.rdev())
}

/// Whether any process has one of these devices open.
pub(crate) fn is_held(devices: &[u64]) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    !devices.is_empty()
        && processes.flatten().any(|process| {
            let files = fs::read_dir(process.path().join("fd"));
            files.into_iter().flatten().flatten().any(|file| {
                // Only what can be a device node: to look at any file could mean to wait for a server of files.
                fs::read_link(file.path()).is_ok_and(|target| target.iter().any(|part| part == "dev"))
                    && device_number(&file.path()).is_some_and(|number| devices.contains(&number))
            })
        })
}
