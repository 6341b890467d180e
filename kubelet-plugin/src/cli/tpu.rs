//! What the agent is told about TPUs: the kernel knows the chips of the host, and nothing of the slice that they are a
//! part of.

use clap::Args;
use tessera_driver::tpu::{Settings, Topology};
use tessera_vocabulary::DriverName;

use super::HardwareOptions;

/// What is said about the node's TPUs. Each flag wins over the labels of the node and the instance's file
/// /etc/tpu/tpu-env; what nobody says is unknown, and the attributes that would say it are left out.
#[derive(Clone, Debug, Args)]
pub struct TpuOptions {
    /// Name of the DRA driver for Google's TPUs: sockets, CDI kind, slices and metrics follow it.
    #[arg(long, global = true, env = "TESSERA_TPU_DRIVER_NAME", default_value = "tpu.google.com", value_name = "NAME")]
    pub tpu_driver_name: DriverName,
    /// The accelerator as GKE names it, such as tpu-v5-lite-podslice [default: as the node's labels say].
    #[arg(long, global = true, env = "TESSERA_TPU_ACCELERATOR", value_name = "NAME")]
    pub tpu_accelerator: Option<String>,
    /// Topology of the slice that the host is a part of, such as 4x8 [default: as labels or the instance say].
    #[arg(long, global = true, env = "TESSERA_TPU_TOPOLOGY", value_name = "TOPOLOGY")]
    pub tpu_topology: Option<Topology>,
    /// Whether the links of the slice are resilient to faults [default: as labels or the instance say].
    #[arg(long, global = true, env = "TESSERA_TPU_ICI_RESILIENCY", value_name = "BOOL")]
    pub tpu_ici_resiliency: Option<bool>,
    /// What tells the slice from others, the same on all of its hosts [default: label tessera.dev/tpu-slice].
    #[arg(long, global = true, env = "TESSERA_TPU_SLICE", value_name = "NAME")]
    pub tpu_slice: Option<String>,
    /// Number of this host in its slice, from 0 [default: label tessera.dev/tpu-worker-id, or as the instance says].
    #[arg(long, global = true, env = "TESSERA_TPU_WORKER_ID", value_name = "NUMBER")]
    pub tpu_worker_id: Option<u32>,
    /// Names of all hosts of the slice, in the order of their numbers [default: label tessera.dev/tpu-worker-hostnames,
    /// where they are joined by _].
    #[arg(long, global = true, env = "TESSERA_TPU_WORKER_HOSTNAMES", value_delimiter = ',', value_name = "HOST")]
    pub tpu_worker_hostnames: Vec<String>,
}

impl HardwareOptions {
    /// What the agent is told about the node's TPUs.
    pub fn tpu_settings(&self) -> Settings {
        let options = self.tpu.clone();
        Settings {
            node: self.node_name.clone().unwrap_or_default(),
            accelerator: options.tpu_accelerator,
            topology: options.tpu_topology,
            ici_resiliency: options.tpu_ici_resiliency,
            slice: options.tpu_slice,
            worker_id: options.tpu_worker_id,
            worker_hostnames: options.tpu_worker_hostnames,
        }
    }
}
