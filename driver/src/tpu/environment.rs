//! What libtpu is told by the environment of a container.
//!
//! libtpu takes all chips that it sees for its own, and asks the instance's metadata which part of which slice they are.
//! Who is given less than the host must be told what it has, and be kept from asking.

use std::fmt::Display;

use super::host_block::form;
use super::{Bounds, Chip, Generation, HostBlock, Topology};

/// Where a process listens for the others of its slice, counted from here by the number of a device node: claims that share
/// the host's network then have different ports, since no two have the same chip.
const FIRST_PORT: u32 = 8476;

/// The environment of a claim that was granted these chips of one host.
pub(super) fn environment(granted: &[&Chip]) -> Vec<String> {
    let Some(first) = granted.first() else { return Vec::new() };
    let mut indexes: Vec<u32> = granted.iter().map(|chip| chip.index).collect();
    indexes.sort_unstable();
    indexes.dedup();
    let all = u32::try_from(indexes.len()).is_ok_and(|count| count == first.chip_count);
    if all { whole_host(first) } else { part(granted, &indexes) }
}

/// Some of the host's chips: a slice of their own, of one process.
///
/// Chips that form no block have no bounds: one process cannot use them together, but a process for each can, and each says
/// itself which it takes.
fn part(granted: &[&Chip], indexes: &[u32]) -> Vec<String> {
    let host = granted.first().and_then(|chip| chip.host);
    let visible: Vec<_> = indexes.iter().map(u32::to_string).collect();
    let mut environment = vec![
        line("TPU_SKIP_MDS_QUERY", true),
        line("TPU_VISIBLE_CHIPS", visible.join(",")),
        line("TPU_WORKER_ID", 0),
        line("TPU_WORKER_HOSTNAMES", "localhost"),
    ];
    if let Some(form) = form(host, indexes) {
        environment.push(line("TPU_CHIPS_PER_PROCESS_BOUNDS", form));
        environment.push(line("TPU_PROCESS_BOUNDS", "1,1,1"));
    }
    let lowest = granted.iter().map(|chip| chip.reach.number()).min();
    let port = lowest.and_then(|number| u16::try_from(FIRST_PORT.checked_add(number)?).ok());
    if let Some(port) = port {
        environment.push(line("TPU_PROCESS_PORT", port));
        environment.push(line("TPU_PROCESS_ADDRESSES", format!("localhost:{port}")));
        environment.push(line("CLOUD_TPU_TASK_ID", 0));
    }
    environment
}

/// All of the host's chips, as a worker of its slice. Where nobody tells which slice that is, libtpu asks the instance.
///
/// Of several hosts, who is which is said only if it was told: on GKE the pod says it, and what is said here would win.
fn whole_host(chip: &Chip) -> Vec<String> {
    let bounds = chip.host.map(HostBlock::bounds);
    let mut environment = Vec::new();
    if let Some(bounds) = bounds {
        environment.extend(both("TPU_CHIPS_PER_HOST_BOUNDS", "CHIPS_PER_HOST_BOUNDS", bounds));
    }
    let Some(topology) = &chip.slice.topology else { return environment };
    environment.push(line("TPU_SKIP_MDS_QUERY", true));
    environment.push(line("TPU_TOPOLOGY", topology));
    environment.push(line("TPU_ACCELERATOR_TYPE", accelerator_type(chip, topology)));
    environment.extend(both("TPU_TOPOLOGY_ALT", "ALT", false));
    environment.extend(both("TPU_TOPOLOGY_WRAP", "WRAP", rings(chip.generation, topology)));
    if let Some(hosts) = bounds.and_then(|bounds| Bounds::from(topology).in_blocks_of(bounds)) {
        environment.extend(both("TPU_HOST_BOUNDS", "HOST_BOUNDS", hosts));
    }
    if let Some(resilient) = chip.slice.ici_resiliency {
        environment.push(line("ENABLE_ICI_RESILIENCY", resilient));
    }
    let worker = &chip.slice.worker;
    if topology.chips() == u64::from(chip.chip_count) {
        environment.push(line("TPU_WORKER_ID", 0));
        environment.push(line("TPU_WORKER_HOSTNAMES", "localhost"));
    } else {
        environment.extend(worker.id.map(|id| line("TPU_WORKER_ID", id)));
        let names = Some(&worker.hostnames).filter(|names| !names.is_empty());
        environment.extend(names.map(|names| line("TPU_WORKER_HOSTNAMES", names.join(","))));
    }
    environment
}

/// As the instance names it, else made as Google's own driver makes it: the generation and the cores of the slice.
fn accelerator_type(chip: &Chip, topology: &Topology) -> String {
    let cores = topology.chips() * u64::from(chip.generation.tensor_cores());
    let made = || format!("{}-{cores}", chip.generation.type_prefix());
    chip.slice.accelerator_type.clone().unwrap_or_else(made)
}

/// Which axes of the slice are rings.
fn rings(generation: Generation, topology: &Topology) -> String {
    let Bounds(lengths) = Bounds::from(topology);
    let rings = match generation {
        Generation::V5e | Generation::V6e => lengths.map(|length| length == 16),
        Generation::V2 | Generation::V3 | Generation::V4 | Generation::V5p | Generation::V7x => {
            [topology.lengths().iter().all(|length| *length >= 4); 3]
        }
    };
    rings.map(|ring| ring.to_string()).join(",")
}

/// Under the name that libtpu reads today and the one that it read before.
fn both(now: &str, before: &str, value: impl Display) -> [String; 2] {
    [line(now, &value), line(before, &value)]
}

fn line(name: &str, value: impl Display) -> String {
    format!("{name}={value}")
}

#[cfg(test)]
mod tests;
