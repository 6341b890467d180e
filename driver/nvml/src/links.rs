use nvml_wrapper::enum_wrappers::nv_link::IntDeviceType;
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings;

use crate::{Library, raw};

/// What NVML knows of a GPU's NVLinks. The default is that it knows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuLinks {
    /// The links that carry traffic now, by number. Empty on parts without NVLink, without a bridge, and where the driver
    /// does not tell.
    pub active: Vec<NvLink>,
    /// The fabric that the GPU belongs to. `None` on parts that know no fabric (before Hopper) and where the driver does
    /// not tell.
    pub fabric: Option<FabricInfo>,
}

/// An NVLink that carries traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NvLink {
    /// Its number on the GPU.
    pub number: u32,
    /// What is at its other end.
    pub far_end: FarEnd,
}

/// What is at the other end of an NVLink. Addresses are NVML's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FarEnd {
    /// A GPU at this PCI address, which may be one that this process cannot see.
    Gpu(String),
    /// A switch. Where the host has it on no PCI bus, the address is something that is none (`fffffff:ffff:ff`).
    Switch(Option<String>),
    /// A processor, or something that the driver does not name.
    Other,
}

/// Membership in an NVLink fabric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FabricInfo {
    /// The cluster's UUID. All zero on a machine whose switches lead to no other one.
    pub cluster: [u8; 16],
    /// The clique inside the cluster whose members can reach each other's memory.
    pub clique: u32,
    /// How far registration with the fabric manager has come.
    pub state: FabricState,
}

/// Registration with the fabric manager (`NVML_GPU_FABRIC_STATE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FabricState {
    /// Nobody has asked for it: the fabric manager does not run.
    NotStarted,
    /// It is under way.
    InProgress,
    /// The GPU is a member.
    Completed,
    /// It has ended without membership, with this answer of NVML.
    Failed(u32),
}

impl Library {
    /// How the GPU with this UUID is linked. What NVML does not tell, for whatever reason, is left out: a link that nobody
    /// can vouch for is no link, and a GPU without any is still a GPU.
    pub fn links(&self, uuid: &str) -> GpuLinks {
        let nvml = self.nvml();
        let Ok(gpu) = nvml.device_by_uuid(uuid) else { return GpuLinks::default() };
        // A number that the GPU lacks is no reason to stop: the numbers of some parts have gaps.
        let active = (0..bindings::NVML_NVLINK_MAX_LINKS).filter_map(|number| link(nvml, &gpu, number)).collect();
        let fabric = raw::fabric(nvml, &gpu).ok().and_then(|row| {
            let state = match u32::from(row.state) {
                bindings::NVML_GPU_FABRIC_STATE_NOT_STARTED => FabricState::NotStarted,
                bindings::NVML_GPU_FABRIC_STATE_IN_PROGRESS => FabricState::InProgress,
                bindings::NVML_GPU_FABRIC_STATE_COMPLETED if row.status == 0 => FabricState::Completed,
                bindings::NVML_GPU_FABRIC_STATE_COMPLETED => FabricState::Failed(row.status),
                _ => return None,
            };
            Some(FabricInfo { cluster: row.cluster, clique: row.clique, state })
        });
        GpuLinks { active, fabric }
    }
}

/// A link, if it carries traffic.
fn link(nvml: &Nvml, gpu: &Device<'_>, number: u32) -> Option<NvLink> {
    let link = gpu.link_wrapper_for(number);
    link.is_active().ok().filter(|active| *active)?;
    let address = || link.remote_pci_info().map(|pci| pci.bus_id);
    let far_end = match raw::far_end(nvml, gpu, number) {
        Ok(IntDeviceType::Gpu) => address().map_or(FarEnd::Other, FarEnd::Gpu),
        Ok(IntDeviceType::Switch) => FarEnd::Switch(address().ok()),
        Ok(IntDeviceType::Ibmnpu | IntDeviceType::Unknown) | Err(_) => FarEnd::Other,
    };
    Some(NvLink { number, far_end })
}
