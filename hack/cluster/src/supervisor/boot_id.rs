//! The id of a node's boot. The kernel's is the same for all nodes and each time that one is started.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::mounts;
use crate::layout::INSIDE;

const KERNEL: &str = "/proc/sys/kernel/random/boot_id";

/// Gives the node a new one where the kubelet and all else outside of containers looks for it; containers have a /proc of
/// their own, and the kernel's. To be called when the node has its mounts.
pub(super) fn renew() -> Result<()> {
    let random = "/proc/sys/kernel/random/uuid";
    let id = fs::read_to_string(random).with_context(|| format!("reading {random}"))?;
    let path = format!("{INSIDE}/boot-id");
    fs::write(&path, id).with_context(|| format!("writing {path}"))?;
    mounts::bind(&mounts::open_path(Path::new(&path))?, Path::new(KERNEL))
}
