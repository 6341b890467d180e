//! What `list` shows.

use std::fmt;

use crate::bus::Tpu;
use crate::fault::Fault;
use crate::hardware::{Gpu, Hardware};
use crate::pci::PciAddress;

/// What `list` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The profile, and the driver that is loaded.
    pub machine: String,
    /// A row for each GPU, in PCI order.
    pub gpus: Vec<Row>,
    /// A line for each TPU, in PCI order.
    pub tpus: Vec<String>,
    /// The rules that make calls fail or take long.
    pub faults: Vec<Fault>,
}

/// One GPU of the listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What commands call it.
    pub index: usize,
    /// Product name.
    pub name: String,
    /// UUID with its `GPU-`.
    pub uuid: String,
    /// PCI address.
    pub pci: PciAddress,
    /// NUMA node of the CPUs next to it; -1 if unknown.
    pub numa_node: i32,
    /// Minor number of its device node.
    pub minor: u32,
    /// `present`, `lost` or `absent`.
    pub state: &'static str,
    /// Whether it is cut: `-` where it cannot be, `on`, `off`, or which of both until a reset.
    pub mig: &'static str,
    /// A line for each GPU instance, compute instance and process.
    pub parts: Vec<String>,
}

impl Listing {
    /// The listing of a machine.
    pub fn of(hardware: &Hardware) -> Self {
        let row = |(index, gpu): (usize, &Gpu)| Row {
            index,
            name: hardware.model(gpu).map_or_else(|| gpu.model.clone(), |model| model.name.clone()),
            uuid: gpu.uuid.clone(),
            pci: gpu.pci,
            numa_node: gpu.numa_node,
            minor: gpu.minor,
            state: state(gpu),
            mig: mode(hardware, gpu),
            parts: parts(hardware, gpu),
        };
        let driver = format!(", driver {}, CUDA {}", hardware.driver.version, hardware.driver.cuda);
        let driver = if hardware.has_driver() { driver } else { String::new() };
        Self {
            machine: format!("{}{driver}", hardware.profile),
            tpus: hardware.tpus.iter().enumerate().map(tpu).collect(),
            gpus: hardware.gpus.iter().enumerate().map(row).collect(),
            faults: hardware.faults.clone(),
        }
    }
}

fn tpu((index, tpu): (usize, &Tpu)) -> String {
    let state = if tpu.present { "present" } else { "absent" };
    let driver = tpu.driver.as_deref().unwrap_or("no driver");
    let node = if tpu.is_vfio() { "/dev/vfio/" } else { "/dev/accel" };
    let generation = format!("{:?}", tpu.generation).to_lowercase();
    let Tpu { pci, numa_node, number, .. } = tpu;
    format!("tpu{index} {generation} {pci} numa {numa_node} {node}{number} {driver}, {state}")
}

fn state(gpu: &Gpu) -> &'static str {
    match gpu {
        Gpu { present: false, .. } => "absent",
        Gpu { lost: true, .. } => "lost",
        _ => "present",
    }
}

fn mode(hardware: &Hardware, gpu: &Gpu) -> &'static str {
    match (hardware.mig_table(gpu), gpu.mig.mode, gpu.mig.pending) {
        (Err(_), ..) => "-",
        (Ok(_), true, true) => "on",
        (Ok(_), false, false) => "off",
        (Ok(_), true, false) => "on, off after a reset",
        (Ok(_), false, true) => "off, on after a reset",
    }
}

fn parts(hardware: &Hardware, gpu: &Gpu) -> Vec<String> {
    let mut lines = Vec::new();
    for instance in &gpu.mig.gpu_instances {
        let table = hardware.mig_table(gpu).ok();
        let name = table.and_then(|table| table.profile(instance.profile)).map_or("?", |row| &row.name);
        lines.push(format!("gi {} {name} at {}", instance.id, instance.placement));
        let profiles = hardware.compute_instance_profiles(instance.serial).unwrap_or_default();
        for own in &instance.compute_instances {
            let name = profiles.iter().find(|row| row.id == own.profile).map_or("?", |row| &row.name);
            lines.push(format!("gi {} ci {} {name} at {} {}", instance.id, own.id, own.placement, own.uuid));
        }
    }
    for process in &gpu.processes {
        let place = process.instance.map_or_else(String::new, |(gi, ci)| format!(" on gi {gi} ci {ci}"));
        lines.push(format!("process {}{place}, {} MiB", process.pid, process.memory_mib));
    }
    lines
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        self.tpus.iter().try_for_each(|tpu| writeln!(f, "{tpu}"))?;
        if self.gpus.is_empty() {
            return Ok(());
        }
        let width = self.gpus.iter().map(|row| row.name.len()).max().unwrap_or(0).max(4);
        writeln!(
            f,
            "{:>5} {:width$} {:40} {:12} {:>4} {:>5} {:7} MIG",
            "INDEX", "NAME", "UUID", "PCI", "NUMA", "MINOR", "STATE"
        )?;
        for Row { index, name, uuid, pci, numa_node, minor, state, mig, parts } in &self.gpus {
            let pci = pci.to_string();
            writeln!(f, "{index:>5} {name:width$} {uuid:40} {pci:12} {numa_node:>4} {minor:>5} {state:7} {mig}")?;
            parts.iter().try_for_each(|part| writeln!(f, "      {part}"))?;
        }
        self.faults.iter().try_for_each(|fault| writeln!(f, "fault {fault}"))
    }
}

/// As a command could say it.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.function)?;
        self.error.map_or(Ok(()), |error| write!(f, ":{error}"))?;
        self.gpu.map_or(Ok(()), |gpu| write!(f, " gpu={gpu}"))?;
        if self.latency_ms > 0 {
            write!(f, " latency_ms={}", self.latency_ms)?;
        }
        if self.from > 1 {
            write!(f, " from={}", self.from)?;
        }
        self.times.map_or(Ok(()), |times| write!(f, " times={times}"))
    }
}
