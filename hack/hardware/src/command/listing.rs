//! What `list` shows.

use std::fmt;

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
        };
        Self {
            machine: format!("{}, driver {}, CUDA {}", hardware.profile, hardware.driver.version, hardware.driver.cuda),
            gpus: hardware.gpus.iter().enumerate().map(row).collect(),
            faults: hardware.faults.clone(),
        }
    }
}

fn state(gpu: &Gpu) -> &'static str {
    match gpu {
        Gpu { present: false, .. } => "absent",
        Gpu { lost: true, .. } => "lost",
        _ => "present",
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.machine)?;
        let width = self.gpus.iter().map(|row| row.name.len()).max().unwrap_or(0).max(4);
        writeln!(f, "{:>5} {:width$} {:40} {:12} {:>4} {:>5} STATE", "INDEX", "NAME", "UUID", "PCI", "NUMA", "MINOR")?;
        for Row { index, name, uuid, pci, numa_node, minor, state } in &self.gpus {
            let pci = pci.to_string();
            writeln!(f, "{index:>5} {name:width$} {uuid:40} {pci:12} {numa_node:>4} {minor:>5} {state}")?;
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
