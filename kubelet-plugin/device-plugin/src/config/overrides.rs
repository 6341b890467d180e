use std::collections::BTreeSet;

use super::{AllocationPolicy, MigStrategy, Way};

/// What flags and the environment say: it stands above what the file says. The default says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// What becomes of partitions.
    pub mig_strategy: Option<MigStrategy>,
    /// Which of several devices of one accelerator a container should get.
    pub allocation_policy: Option<AllocationPolicy>,
    /// How a container gets its devices.
    pub ways: Option<BTreeSet<Way>>,
    /// Whether the kubelet is told of device nodes too.
    pub device_nodes: Option<bool>,
    /// What the keys of CDI's annotations begin with.
    pub annotation_prefix: Option<String>,
    /// Whether a container is given `gdrdrv`.
    pub gdrcopy: Option<bool>,
    /// Whether a container is given GPUDirect Storage.
    pub gds: Option<bool>,
    /// Whether a container is given Mellanox's network driver.
    pub mofed: Option<bool>,
}
