//! The state of a simulated machine: all that processes share.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::bus::{Function, Tpu};
use crate::event::Event;
use crate::fault::Fault;
use crate::mig::Mig;
use crate::model::Model;
use crate::pci::{PciAddress, PciRoot};
use crate::process::Process;

/// Events kept for those who wait; older ones are dropped.
const EVENTS_KEPT: usize = 1024;

/// The XID of a GPU that has fallen off the bus (NVIDIA's XID catalogue).
const XID_FALLEN_OFF_THE_BUS: u64 = 79;

/// The state of a simulated machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hardware {
    /// The profile it was made from.
    pub profile: String,
    /// What the firmware calls the machine. `None` where it says nothing, as on some virtual machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// NVIDIA's driver that is loaded, or [`Driver::NONE`].
    #[serde(default = "Driver::none", skip_serializing_if = "Driver::is_none")]
    pub driver: Driver,
    /// The host's NUMA nodes that have CPUs.
    pub numa_nodes: Vec<NumaNode>,
    /// The NVLink switches that GPUs are linked to.
    pub switches: Vec<Switch>,
    /// The NVLinks between two GPUs.
    #[serde(default)]
    pub bridges: Vec<Bridge>,
    /// The models of the GPUs, by the name that [`Gpu::model`] uses.
    pub models: BTreeMap<String, Model>,
    /// The GPUs in PCI order. Entries never move or vanish: a GPU that was pulled out has `present = false`.
    pub gpus: Vec<Gpu>,
    /// The TPU chips in PCI order. Entries never move or vanish, as those of GPUs.
    #[serde(default)]
    pub tpus: Vec<Tpu>,
    /// What else sits on the bus.
    #[serde(default)]
    pub functions: Vec<Function>,
    /// What an instance of Google's cloud is told of its TPUs, `/etc/tpu/tpu-env`.
    #[serde(default)]
    pub instance: BTreeMap<String, String>,
    /// What makes calls fail or take long.
    pub faults: Vec<Fault>,
    /// The latest events, oldest first.
    pub events: Vec<Event>,
    /// Sequence number of the latest event; 0 before the first.
    pub last_event: u64,
    /// Number of the latest fault; 0 before the first.
    pub last_fault: u64,
    /// Serial number of the latest GPU instance or compute instance; 0 before the first.
    #[serde(default)]
    pub last_instance: u64,
    /// Whether the calls of NVML are kept; see [`crate::CallRecord`].
    #[serde(default)]
    pub records_calls: bool,
}

impl Hardware {
    /// The model of a GPU. `None` only if the state file was edited by hand into nonsense.
    pub fn model(&self, gpu: &Gpu) -> Option<&Model> {
        self.models.get(&gpu.model)
    }

    /// The CPUs of a NUMA node, as a kernel list (`0-55,112-167`); empty where the host does not say.
    pub fn local_cpus(&self, node: i32) -> &str {
        self.numa_nodes.iter().find(|known| known.node == node).map_or("", |node| &node.cpus)
    }

    /// Whether NVIDIA's driver is installed.
    pub fn has_driver(&self) -> bool {
        !self.driver.is_none()
    }

    /// Raises an event and gives back its sequence number. XID 79 takes the GPU off the bus.
    pub fn raise(&mut self, event: Event) -> u64 {
        self.last_event += 1;
        let fallen = event.kind == crate::EventType::Xid && event.data == XID_FALLEN_OFF_THE_BUS;
        if let Some(gpu) = self.gpus.iter_mut().find(|gpu| gpu.pci == event.gpu && fallen) {
            gpu.lost = true;
        }
        self.events.push(Event { sequence: self.last_event, ..event });
        let surplus = self.events.len().saturating_sub(EVENTS_KEPT);
        self.events.drain(..surplus);
        self.last_event
    }

    /// Adds a fault and gives back its number.
    pub fn add_fault(&mut self, fault: Fault) -> u64 {
        self.last_fault += 1;
        self.faults.push(Fault { id: self.last_fault, ..fault });
        self.last_fault
    }
}

/// The kernel driver and the libraries that came with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Driver {
    /// As the driver prints it, like `550.163.01`.
    pub version: String,
    /// The newest CUDA it can run.
    pub cuda: CudaVersion,
}

impl Driver {
    /// On a machine without NVIDIA's GPUs.
    pub const NONE: Self = Self { version: String::new(), cuda: CudaVersion { major: 0, minor: 0 } };

    fn none() -> Self {
        Self::NONE
    }

    fn is_none(&self) -> bool {
        *self == Self::NONE
    }

    /// The number before the first dot, which tells what a driver can do: 550.
    pub fn major(&self) -> u32 {
        self.version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0)
    }

    /// As `nvmlSystemGetNVMLVersion` prints it: the CUDA major and the driver's version, like `12.550.163.01`.
    pub fn nvml_version(&self) -> String {
        format!("{}.{}", self.cuda.major, self.version)
    }
}

/// A CUDA version, written `12.4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CudaVersion {
    /// Before the dot.
    pub major: u32,
    /// After the dot.
    pub minor: u32,
}

impl CudaVersion {
    /// As `nvmlSystemGetCudaDriverVersion` gives it: 12040 for 12.4.
    pub fn number(self) -> u32 {
        self.major * 1000 + self.minor * 10
    }
}

impl TryFrom<String> for CudaVersion {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parts = text.split_once('.').map(|(major, minor)| (major.parse(), minor.parse()));
        match parts {
            Some((Ok(major @ 1..=99), Ok(minor @ 0..=99))) => Ok(Self { major, minor }),
            _ => Err(format!("{text:?} is no CUDA version; allowed: <major>.<minor>, like 12.4")),
        }
    }
}

impl From<CudaVersion> for String {
    fn from(version: CudaVersion) -> Self {
        version.to_string()
    }
}

impl fmt::Display for CudaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A NUMA node with CPUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumaNode {
    /// Its number.
    pub node: i32,
    /// Its CPUs as a kernel list, like `0-55,112-167`.
    pub cpus: String,
}

/// An NVLink switch that every GPU of the machine has links to, or every GPU of its board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// Where the host sees it; absent for switches that are on no PCI bus of the host (NVLink 5).
    #[serde(default)]
    pub pci: Option<PciAddress>,
    /// Links from each GPU to it.
    pub links: u32,
    /// The PCI domain of the GPUs that are linked to it, on machines of several boards; absent means all.
    #[serde(default)]
    pub domain: Option<u32>,
}

/// NVLinks that go from one GPU straight to another, on the board or over a bridge between two cards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bridge {
    /// The two GPUs.
    pub between: [PciAddress; 2],
    /// How many links.
    pub links: u32,
}

/// The NVLink fabric that a GPU belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fabric {
    /// The cluster's UUID.
    pub cluster: String,
    /// The clique inside the cluster whose members can reach each other's memory.
    pub clique: u32,
    /// How far registration with the fabric manager has come.
    pub state: FabricState,
}

impl Fabric {
    /// Whether it reaches beyond the node: only such a one has a cluster.
    pub(crate) fn spans_nodes(&self) -> bool {
        self.cluster.bytes().any(|byte| !matches!(byte, b'0' | b'-'))
    }
}

/// Registration with the fabric manager (`NVML_GPU_FABRIC_STATE_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FabricState {
    /// 1
    NotStarted,
    /// 2
    InProgress,
    /// 3
    Completed,
}

/// Who may use a GPU (`NVML_COMPUTEMODE_*`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComputeMode {
    /// 0: any number of processes.
    #[default]
    Default,
    /// 2: none.
    Prohibited,
    /// 3: one process.
    ExclusiveProcess,
}

/// One GPU of the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gpu {
    /// Key into [`Hardware::models`].
    pub model: String,
    /// Where it sits.
    pub pci: PciAddress,
    /// The root complex it hangs below.
    pub root: PciRoot,
    /// The bridges between the root and the GPU, root port first.
    pub bridges: Vec<PciAddress>,
    /// NUMA node of the CPUs next to it; -1 where the host does not say.
    pub numa_node: i32,
    /// NUMA node that its own memory forms, on coherent machines.
    pub memory_numa_node: Option<u32>,
    /// Position on the baseboard, as `nvmlDeviceGetModuleId` gives it.
    pub module_id: Option<u32>,
    /// Serial number of the board.
    pub serial: Option<String>,
    /// `GPU-` and a UUID.
    pub uuid: String,
    /// Minor number that the driver gave it: the `0` of `/dev/nvidia0`.
    pub minor: u32,
    /// The NVLink fabric it belongs to.
    pub fabric: Option<Fabric>,
    /// The numbers of its NVLinks that are down. This end only: the number that the link has on the GPU at the other end is
    /// an entry of that GPU.
    #[serde(default)]
    pub links_down: BTreeSet<u32>,
    /// In its slot. An absent one has no files, and NVML does not list it.
    pub present: bool,
    /// Off the bus: files stay, and each call about it answers `GPU_IS_LOST`.
    pub lost: bool,
    /// Whether the driver keeps it initialised without clients.
    pub persistence_mode: bool,
    /// Who may use it.
    pub compute_mode: ComputeMode,
    /// What it is cut into. The tables that it is cut by are in [`Model::mig`].
    #[serde(default)]
    pub mig: Mig,
    /// The processes that use it.
    #[serde(default)]
    pub processes: Vec<Process>,
}
