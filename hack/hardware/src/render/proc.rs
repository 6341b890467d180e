//! `proc/`: what the kernel driver says about itself.

use super::dev::{self, MAJOR};
use super::tree::{Content, Entry};
use crate::hardware::{Gpu, Hardware};
use crate::model::Model;

pub(super) fn files(hardware: &Hardware) -> Vec<Entry> {
    let mut files = vec![
        Entry::new("proc/devices", Content::Text(devices(hardware))),
        Entry::new("proc/driver/nvidia/version", Content::Text(version(&hardware.driver.version))),
        Entry::new("proc/driver/nvidia/params", Content::Text(PARAMS.to_owned())),
    ];
    for (position, gpu) in (0..).zip(&hardware.gpus) {
        let Some(model) = hardware.model(gpu).filter(|_| gpu.present) else { continue };
        let path = format!("proc/driver/nvidia/gpus/{}/information", gpu.pci);
        files.push(Entry::new(path, Content::Text(information(gpu, model, position, &hardware.driver.version))));
    }
    files
}

/// The majors agree with the nodes in `dev/`: one major, as the kernel too lists one more than once.
fn devices(hardware: &Hardware) -> String {
    let names = ["tty", "nvidia", "nvidiactl", "nvidia-modeset", "nvidia-uvm", "nvidia-caps"];
    let channels = dev::has_channel(hardware).then_some("nvidia-caps-imex-channels");
    let lines: String = names.into_iter().chain(channels).map(|name| format!("{MAJOR:3} {name}\n")).collect();
    format!("Character devices:\n  1 mem\n{lines}226 drm\n\nBlock devices:\n  7 loop\n")
}

fn version(driver: &str) -> String {
    format!(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {driver}  Release Build\nGCC version:  gcc version 12.3.0\n"
    )
}

/// Module parameters that others read; NVIDIA's defaults.
const PARAMS: &str = "\
ModifyDeviceFiles: 1
DeviceFileUID: 0
DeviceFileGID: 0
DeviceFileMode: 438
InitializeSystemMemoryAllocations: 1
EnableMSI: 1
EnableGpuFirmware: 18
OpenRmEnableUnsupportedGpus: 1
NVreg_GrdmaPciTopoCheckOverride: 0
RegistryDwords: \"\"
";

/// The IRQ is synthetic: one number per GPU.
fn information(gpu: &Gpu, model: &Model, position: u32, driver: &str) -> String {
    let lines = [
        ("Model: \t\t", model.name.clone()),
        ("IRQ:   \t\t", (100 + position).to_string()),
        ("GPU UUID: \t", gpu.uuid.clone()),
        ("Video BIOS: \t", model.vbios.clone()),
        ("Bus Type: \t", "PCIe".to_owned()),
        ("DMA Size: \t", "52 bits".to_owned()),
        ("DMA Mask: \t", "0xfffffffffffff".to_owned()),
        ("Bus Location: \t", gpu.pci.to_string()),
        ("Device Minor: \t", gpu.minor.to_string()),
        ("GPU Firmware: \t", driver.to_owned()),
        ("GPU Excluded:\t", "No".to_owned()),
    ];
    lines.map(|(label, value)| format!("{label} {value}\n")).concat()
}
