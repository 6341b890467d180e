//! `sys/`: PCI devices and NUMA nodes.

use super::tree::{Content, Entry};
use crate::hardware::{Gpu, Hardware};
use crate::model::{Model, PciIdentity};

pub(super) fn files(hardware: &Hardware) -> Vec<Entry> {
    let nodes = hardware.numa_nodes.iter();
    let nodes = nodes.map(|node| Entry::line(format!("sys/devices/system/node/node{}/cpulist", node.node), &node.cpus));
    let gpus = (0..).zip(&hardware.gpus).filter(|(_, gpu)| gpu.present);
    let gpus = gpus.filter_map(|(position, gpu)| Some(gpu_files(hardware, gpu, hardware.model(gpu)?, position)));
    nodes.chain(gpus.flatten()).collect()
}

fn gpu_files(hardware: &Hardware, gpu: &Gpu, model: &Model, position: u32) -> Vec<Entry> {
    let device = device_path(gpu);
    let ids = &model.pci;
    let speed = link_speed(ids.link_generation);
    // Real servers have a display controller as card0 without a render node.
    let (card, render) = (position + 1, 128 + position);
    let lines = [
        ("vendor", format!("{:#06x}", ids.vendor)),
        ("device", format!("{:#06x}", ids.device)),
        ("subsystem_vendor", format!("{:#06x}", ids.subsystem_vendor)),
        ("subsystem_device", format!("{:#06x}", ids.subsystem_device)),
        ("class", format!("{:#08x}", ids.class)),
        ("revision", format!("{:#04x}", ids.revision)),
        ("numa_node", gpu.numa_node.to_string()),
        ("local_cpulist", hardware.local_cpus(gpu).to_owned()),
        ("current_link_speed", speed.to_owned()),
        ("current_link_width", ids.link_width.to_string()),
        ("max_link_speed", speed.to_owned()),
        ("max_link_width", ids.link_width.to_string()),
        (&format!("drm/card{card}/dev"), format!("226:{card}")),
        (&format!("drm/renderD{render}/dev"), format!("226:{render}")),
    ];
    let mut files: Vec<Entry> =
        lines.into_iter().map(|(name, value)| Entry::line(format!("{device}/{name}"), value)).collect();
    files.push(Entry::new(format!("{device}/uevent"), Content::Text(uevent(gpu, ids))));
    files.push(Entry::link_within(&format!("{device}/driver"), DRIVER));
    files.push(Entry::link_within(&format!("sys/bus/pci/devices/{}", gpu.pci), &device));
    files.push(Entry::link_within(&format!("{DRIVER}/{}", gpu.pci), &device));
    files
}

const DRIVER: &str = "sys/bus/pci/drivers/nvidia";

fn device_path(gpu: &Gpu) -> String {
    let bridges: String = gpu.bridges.iter().map(|bridge| format!("/{bridge}")).collect();
    format!("sys/devices/{}{bridges}/{}", gpu.root, gpu.pci)
}

fn uevent(gpu: &Gpu, ids: &PciIdentity) -> String {
    format!(
        "DRIVER=nvidia\nPCI_CLASS={:X}\nPCI_ID={:04X}:{:04X}\nPCI_SUBSYS_ID={:04X}:{:04X}\nPCI_SLOT_NAME={}\n",
        ids.class, ids.vendor, ids.device, ids.subsystem_vendor, ids.subsystem_device, gpu.pci
    )
}

/// As the kernel words it (`pci_speed_string`).
fn link_speed(generation: u32) -> &'static str {
    match generation {
        1 => "2.5 GT/s PCIe",
        2 => "5.0 GT/s PCIe",
        3 => "8.0 GT/s PCIe",
        4 => "16.0 GT/s PCIe",
        5 => "32.0 GT/s PCIe",
        6 => "64.0 GT/s PCIe",
        _ => "Unknown",
    }
}
