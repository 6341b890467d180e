//! How GPUs and CPUs lie to each other.

use std::ffi::{c_uint, c_ulong};

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlGpuLevel_enum_NVML_TOPOLOGY_HOSTBRIDGE, nvmlGpuLevel_enum_NVML_TOPOLOGY_INTERNAL,
    nvmlGpuLevel_enum_NVML_TOPOLOGY_MULTIPLE, nvmlGpuLevel_enum_NVML_TOPOLOGY_NODE,
    nvmlGpuLevel_enum_NVML_TOPOLOGY_SINGLE, nvmlGpuLevel_enum_NVML_TOPOLOGY_SYSTEM, nvmlGpuTopologyLevel_t,
    nvmlReturn_t,
};
use simulated_hardware::{Gpu, NvmlError};

use crate::abi::{Out, Result};
use crate::view::GpuView;
use crate::{call, handle};

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTopologyCommonAncestor(
    device1: nvmlDevice_t,
    device2: nvmlDevice_t,
    level: Out<nvmlGpuTopologyLevel_t>,
) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetTopologyCommonAncestor", device1, |gpu| {
        level.set(common_ancestor(gpu.gpu, other(gpu, device2)?.gpu))
    })
}

/// Count in, count and handles out; without an array only the count.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTopologyNearestGpus(
    device: nvmlDevice_t,
    level: nvmlGpuTopologyLevel_t,
    count: Out<c_uint>,
    devices: Out<nvmlDevice_t>,
) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetTopologyNearestGpus", device, |gpu| {
        let others = gpu.machine.gpus().filter(|other| other.position != gpu.position);
        let near = others.filter(|other| common_ancestor(gpu.gpu, other.gpu) <= level);
        let handles: Vec<nvmlDevice_t> = near.map(|other| other.handle()).collect();
        let room = count.get()? as usize;
        count.set(handles.len() as c_uint)?;
        if devices.is_null() { Ok(()) } else { devices.set_all(handles.into_iter(), room) }
    })
}

/// The NUMA node that the GPU's own memory forms. On machines where it forms none, nvml.h says not supported.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetNumaNodeId(device: nvmlDevice_t, node: Out<c_uint>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetNumaNodeId", device, |gpu| {
        node.set(gpu.gpu.memory_numa_node.ok_or(NvmlError::NOT_SUPPORTED)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCpuAffinity(device: nvmlDevice_t, words: c_uint, set: Out<c_ulong>) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetCpuAffinity", device, |gpu| {
        let cpus = cpus(gpu.machine.hardware.local_cpus(gpu.gpu.numa_node)).ok_or(NvmlError::UNKNOWN)?;
        set.set_all(mask(cpus, words as usize).into_iter(), words as usize)
    })
}

/// Both scopes, node and socket, give the node: the profiles know no more.
#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryAffinity(
    device: nvmlDevice_t,
    words: c_uint,
    set: Out<c_ulong>,
    _scope: c_uint,
) -> nvmlReturn_t {
    call::gpu("nvmlDeviceGetMemoryAffinity", device, |gpu| {
        let node = usize::try_from(gpu.gpu.numa_node).map_err(|_| NvmlError::NOT_SUPPORTED)?;
        set.set_all(mask([node], words as usize).into_iter(), words as usize)
    })
}

/// The second GPU of a call.
fn other(gpu: GpuView<'_>, device: nvmlDevice_t) -> Result<GpuView<'_>> {
    let position = handle::to_position(device).ok_or(NvmlError::INVALID_ARGUMENT)?;
    let other = gpu.machine.gpu(position)?;
    call::reachable(other)?;
    Ok(other)
}

/// From the bridges that both hang below. One shared switch is: all bridges shared but each GPU's own downstream port.
fn common_ancestor(one: &Gpu, two: &Gpu) -> nvmlGpuTopologyLevel_t {
    let shared = one.bridges.iter().zip(&two.bridges).take_while(|(left, right)| left == right).count();
    if one.pci == two.pci {
        nvmlGpuLevel_enum_NVML_TOPOLOGY_INTERNAL
    } else if one.root == two.root && shared > 0 {
        let deepest = one.bridges.len().max(two.bridges.len());
        if shared + 1 >= deepest {
            nvmlGpuLevel_enum_NVML_TOPOLOGY_SINGLE
        } else {
            nvmlGpuLevel_enum_NVML_TOPOLOGY_MULTIPLE
        }
    } else if one.root == two.root {
        nvmlGpuLevel_enum_NVML_TOPOLOGY_HOSTBRIDGE
    } else if one.numa_node == two.numa_node {
        nvmlGpuLevel_enum_NVML_TOPOLOGY_NODE
    } else {
        nvmlGpuLevel_enum_NVML_TOPOLOGY_SYSTEM
    }
}

/// The numbers of a kernel list like `0-55,112-167`.
fn cpus(list: &str) -> Option<Vec<usize>> {
    let mut all = Vec::new();
    for part in list.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        all.extend(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?);
    }
    Some(all)
}

/// A bit for each number, cut to the words that there is room for, as NVML cuts.
fn mask(numbers: impl IntoIterator<Item = usize>, words: usize) -> Vec<c_ulong> {
    const BITS: usize = c_ulong::BITS as usize;
    // A caller's count is no reason to take any amount of memory: 1024 words are 65,536 CPUs.
    let mut mask = vec![0; words.min(1024)];
    for number in numbers {
        if let Some(word) = mask.get_mut(number / BITS) {
            *word |= 1 << (number % BITS);
        }
    }
    mask
}

#[cfg(test)]
mod tests {
    use simulated_hardware::Profile;

    use super::*;

    #[test]
    fn levels_follow_the_tree() {
        let level = |profile: &str, one: usize, two: usize| {
            let gpus = Profile::named(profile).unwrap().gpus;
            common_ancestor(&gpus[one], &gpus[two])
        };
        for (profile, one, two, expected) in [
            ("dgx-a100", 0, 0, nvmlGpuLevel_enum_NVML_TOPOLOGY_INTERNAL),
            ("dgx-a100", 0, 1, nvmlGpuLevel_enum_NVML_TOPOLOGY_MULTIPLE),
            ("dgx-a100", 0, 2, nvmlGpuLevel_enum_NVML_TOPOLOGY_SYSTEM),
            ("dgx-h100", 0, 3, nvmlGpuLevel_enum_NVML_TOPOLOGY_NODE),
            ("dgx-h100", 3, 4, nvmlGpuLevel_enum_NVML_TOPOLOGY_SYSTEM),
            ("gb200", 0, 1, nvmlGpuLevel_enum_NVML_TOPOLOGY_NODE),
        ] {
            assert_eq!(level(profile, one, two), expected, "{profile} {one} {two}");
            assert_eq!(level(profile, two, one), expected, "{profile} {two} {one}");
        }
        let mut gpus = Profile::named("dgx-a100").unwrap().gpus;
        gpus[1].bridges = gpus[0].bridges.clone();
        gpus[1].bridges[3].device = 8;
        assert_eq!(common_ancestor(&gpus[0], &gpus[1]), nvmlGpuLevel_enum_NVML_TOPOLOGY_SINGLE);
        gpus[1].bridges.clear();
        assert_eq!(common_ancestor(&gpus[0], &gpus[1]), nvmlGpuLevel_enum_NVML_TOPOLOGY_HOSTBRIDGE);
    }

    #[test]
    fn lists_and_masks() {
        assert_eq!(cpus("0-2,64").unwrap(), [0, 1, 2, 64]);
        assert_eq!(cpus("").unwrap(), [0usize; 0]);
        assert_eq!(cpus("x"), None);
        assert_eq!(mask([0, 1, 2, 64], 2), [7, 1]);
        assert_eq!(mask([64], 1), [0]);
    }
}
