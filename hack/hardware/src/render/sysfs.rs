//! `sys/`: PCI devices and NUMA nodes.

use super::pci::PciFunction;
use super::tree::Entry;
use crate::bus::{Function, Tpu};
use crate::hardware::{Gpu, Hardware};
use crate::model::Model;

pub(super) fn files(hardware: &Hardware) -> Vec<Entry> {
    let nodes = hardware.numa_nodes.iter();
    let product = hardware.product.iter().flat_map(|name| {
        let directory = "sys/devices/virtual/dmi/id";
        [Entry::line(format!("{directory}/product_name"), name), Entry::link_within("sys/class/dmi/id", directory)]
    });
    let nodes = nodes.map(|node| Entry::line(format!("sys/devices/system/node/node{}/cpulist", node.node), &node.cpus));
    let gpus = (0..).zip(&hardware.gpus).filter(|(_, gpu)| gpu.present);
    let gpus = gpus.filter_map(|(position, gpu)| Some(gpu_files(hardware, gpu, hardware.model(gpu)?, position)));
    let tpus = hardware.tpus.iter().filter(|tpu| tpu.present).map(|tpu| tpu_files(hardware, tpu));
    let others = hardware.functions.iter().map(other_files);
    product.chain(nodes).chain(gpus.flatten()).chain(tpus.flatten()).chain(others.flatten()).collect()
}

fn gpu_files(hardware: &Hardware, gpu: &Gpu, model: &Model, position: u32) -> Vec<Entry> {
    let function = PciFunction {
        pci: gpu.pci,
        root: &gpu.root,
        bridges: &gpu.bridges,
        identity: &model.pci,
        numa_node: gpu.numa_node,
        local_cpus: hardware.local_cpus(gpu.numa_node),
        driver: Some("nvidia"),
        iommu_group: None,
    };
    // Real servers have a display controller as card0 without a render node.
    let (card, render) = (position + 1, 128 + position);
    let device = function.directory();
    let mut files = function.files();
    files.push(Entry::line(format!("{device}/drm/card{card}/dev"), format!("226:{card}")));
    files.push(Entry::line(format!("{device}/drm/renderD{render}/dev"), format!("226:{render}")));
    files
}

fn tpu_files(hardware: &Hardware, tpu: &Tpu) -> Vec<Entry> {
    let function = PciFunction {
        pci: tpu.pci,
        root: &tpu.root,
        bridges: &tpu.bridges,
        identity: &tpu.identity(),
        numa_node: tpu.numa_node,
        local_cpus: hardware.local_cpus(tpu.numa_node),
        driver: tpu.driver.as_deref(),
        iommu_group: tpu.is_vfio().then_some(tpu.number),
    };
    let mut files = function.files();
    if tpu.class && tpu.driver.is_some() && !tpu.is_vfio() {
        let node = format!("{}/accel/accel{}", function.directory(), tpu.number);
        // The kernel's major number of accelerators.
        files.push(Entry::line(format!("{node}/dev"), format!("261:{}", tpu.number)));
        files.push(Entry::link_within(&format!("sys/class/accel/accel{}", tpu.number), &node));
    }
    files
}

fn other_files(other: &Function) -> Vec<Entry> {
    let function = PciFunction {
        pci: other.pci,
        root: &other.root,
        bridges: &[],
        identity: &other.identity,
        numa_node: -1,
        local_cpus: "",
        driver: Some(&other.driver),
        iommu_group: other.group,
    };
    function.files()
}
