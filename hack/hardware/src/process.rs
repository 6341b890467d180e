//! Processes that use a GPU. None of them runs: they are what a client is told, and what is in its way.

use serde::{Deserialize, Serialize};

/// A process on a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// Device memory that it has, in MiB.
    pub memory_mib: u64,
    /// The ids of the GPU instance and the compute instance that it runs on; absent on a whole GPU.
    #[serde(default)]
    pub instance: Option<(u32, u32)>,
}
