//! Every profile, read through the library and held against its data.

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::{Brand, TopologyLevel};
use nvml_wrapper::enums::device::DeviceArchitecture;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper_sys::bindings as sys;
use simulated_hardware::{Architecture, Profile};

use crate::support::Node;

fn architecture(of: Architecture) -> DeviceArchitecture {
    match of {
        Architecture::Turing => DeviceArchitecture::Turing,
        Architecture::Ampere => DeviceArchitecture::Ampere,
        Architecture::Ada => DeviceArchitecture::Ada,
        Architecture::Hopper => DeviceArchitecture::Hopper,
        Architecture::Blackwell => DeviceArchitecture::Blackwell,
    }
}

#[test]
fn a_client_reads_what_the_profile_says() {
    for name in Profile::names_with_gpus() {
        let profile = Profile::named(name).unwrap();
        let node = Node::new(name);
        let nvml = node.nvml();
        assert_eq!(nvml.sys_driver_version().unwrap(), profile.driver.version, "{name}");
        assert_eq!(nvml.sys_nvml_version().unwrap(), profile.driver.nvml_version(), "{name}");
        assert_eq!(nvml.sys_cuda_driver_version().unwrap(), profile.driver.cuda.number() as i32, "{name}");
        assert_eq!(nvml.device_count().unwrap() as usize, profile.gpus.len(), "{name}");
        for (index, gpu) in (0..).zip(&profile.gpus) {
            let model = &profile.models[&gpu.model];
            let device = nvml.device_by_index(index).unwrap();
            assert_eq!(device.index().unwrap(), index);
            assert_eq!(device.minor_number().unwrap(), gpu.minor);
            assert_eq!(device.name().unwrap(), model.name);
            assert_eq!(device.uuid().unwrap(), gpu.uuid);
            assert_eq!(device.serial().unwrap(), *gpu.serial.as_ref().unwrap());
            assert_eq!(device.board_part_number().unwrap(), model.board_part_number);
            assert_eq!(device.vbios_version().unwrap(), model.vbios);
            assert_eq!(device.brand().unwrap(), Brand::Nvidia);
            assert_eq!(device.architecture().unwrap(), architecture(model.architecture));
            assert_eq!(device.num_cores().unwrap(), model.cores);
            let capability = device.cuda_compute_capability().unwrap();
            assert_eq!(format!("{}.{}", capability.major, capability.minor), model.compute_capability.to_string());
            let memory = device.memory_info().unwrap();
            assert_eq!(memory.total, model.memory.total_mib << 20);
            // nvml-wrapper asks for the second version of the struct, in which what is reserved is not used.
            assert_eq!((memory.used, memory.reserved), (0, model.memory.reserved_mib << 20));
            assert_eq!(memory.free + memory.reserved, memory.total);
            assert_eq!(device.bar1_memory_info().unwrap().total, model.memory.bar1_mib << 20);
            let pci = device.pci_info().unwrap();
            assert_eq!(pci.bus_id, gpu.pci.nvml());
            assert_eq!((pci.domain, pci.bus), (gpu.pci.domain, gpu.pci.bus.into()));
            assert_eq!(pci.pci_device_id >> 16, u32::from(model.pci.device));
            assert_eq!(pci.pci_device_id & 0xffff, 0x10de);
            assert_eq!(pci.pci_sub_system_id.unwrap() >> 16, u32::from(model.pci.subsystem_device));
            assert_eq!(nvml.device_by_uuid(gpu.uuid.as_str()).unwrap().index().unwrap(), index);
            for spelling in [gpu.pci.to_string(), gpu.pci.nvml()] {
                assert_eq!(nvml.device_by_pci_bus_id(spelling).unwrap().index().unwrap(), index);
            }
            assert_eq!(device.numa_node_id().ok(), gpu.memory_numa_node);
            match device.mig_mode() {
                Ok(mode) => assert!(model.mig.is_some() && mode.current == 0 && mode.pending == 0),
                Err(error) => assert!(model.mig.is_none() && matches!(error, NvmlError::NotSupported)),
            }
        }
        let beyond = nvml.device_by_index(profile.gpus.len() as u32);
        assert!(matches!(beyond, Err(NvmlError::InvalidArg)), "{name}");
        assert!(matches!(nvml.device_by_uuid("GPU-none"), Err(NvmlError::NotFound)), "{name}");
    }
}

#[test]
fn gpus_come_in_pci_order() {
    for name in Profile::names_with_gpus() {
        let node = Node::new(name);
        let nvml = node.nvml();
        let count = nvml.device_count().unwrap();
        let order: Vec<String> =
            (0..count).map(|index| nvml.device_by_index(index).unwrap().pci_info().unwrap().bus_id).collect();
        assert!(order.is_sorted(), "{name}: {order:?}");
    }
}

#[test]
fn topology_and_cpus() {
    let node = Node::new("dgx-h100");
    let nvml = node.nvml();
    let device = |index| nvml.device_by_index(index).unwrap();
    assert_eq!(device(0).topology_common_ancestor(device(1)).unwrap(), TopologyLevel::Node);
    assert_eq!(device(0).topology_common_ancestor(device(7)).unwrap(), TopologyLevel::System);
    assert_eq!(device(0).topology_nearest_gpus(TopologyLevel::Node).unwrap().len(), 3);
    assert_eq!(device(0).topology_nearest_gpus(TopologyLevel::System).unwrap().len(), 7);
    // 0-55 and 112-167.
    assert_eq!(device(0).cpu_affinity(4).unwrap(), [(1 << 56) - 1, 0xffff << 48, (1 << 40) - 1, 0]);
}

#[test]
fn links_end_at_switches() {
    for (profile, links, bus_id) in
        [("dgx-h100", 18, "00000000:0A:00.0"), ("dgx-a100", 12, "00000000:C9:00.0"), ("gb200", 18, "fffffff:ffff:ff")]
    {
        let node = Node::new(profile);
        let nvml = node.nvml();
        let device = nvml.device_by_index(0).unwrap();
        for link in 0..links {
            assert!(device.link_wrapper_for(link).is_active().unwrap(), "{profile} {link}");
        }
        let last = device.link_wrapper_for(links - 1);
        assert_eq!(last.remote_pci_info().unwrap().bus_id, bus_id, "{profile}");
        assert!(matches!(device.link_wrapper_for(links).is_active(), Err(NvmlError::InvalidArg)), "{profile}");
    }
    let node = Node::new("mixed");
    let nvml = node.nvml();
    let device = nvml.device_by_index(0).unwrap();
    assert!(matches!(device.link_wrapper_for(0).is_active(), Err(NvmlError::NotSupported)));
}

#[test]
fn links_end_at_peers_and_can_be_down() {
    let node = Node::new("hgx-a100-4");
    let nvml = node.nvml();
    let device = nvml.device_by_index(1).unwrap();
    let peers: Vec<_> =
        (0..12).map(|link| device.link_wrapper_for(link).remote_pci_info().unwrap().bus_id[9..11].to_owned()).collect();
    assert_eq!(peers, ["01", "01", "01", "01", "81", "81", "81", "81", "C1", "C1", "C1", "C1"]);
    node.machine.update(|hardware| hardware.gpus[1].links_down.insert(5)).unwrap();
    let down: Vec<_> = (0..12).filter(|link| !device.link_wrapper_for(*link).is_active().unwrap()).collect();
    assert_eq!(down, [5]);
    // On a machine of two boards each has its own switches.
    let node = Node::new("h100x16");
    let nvml = node.nvml();
    for (gpu, bus_id) in [(0, "00000000:07:00.0"), (15, "00000001:07:00.0")] {
        let device = nvml.device_by_index(gpu).unwrap();
        assert_eq!(device.link_wrapper_for(0).remote_pci_info().unwrap().bus_id, bus_id);
        assert!(matches!(device.link_wrapper_for(18).is_active(), Err(NvmlError::InvalidArg)));
    }
}

#[test]
fn a_tray_has_its_clique() {
    let node = Node::new("gb200");
    let nvml = node.nvml();
    let (answer, info) = fabric(&nvml, 3);
    assert_eq!(answer, 0);
    assert_eq!((info.state, info.cliqueId, info.healthSummary), (3, 32766, 1));
    assert_eq!(info.clusterUuid[..4], [0xc7, 0xd3, 0xe2, 0xf1]);
    assert_eq!(fabric(&nvml, 4).0, 25, "no such version");
    let node = Node::new("dgx-a100");
    assert_eq!(fabric(&node.nvml(), 3).0, 3, "no fabric before Hopper");
}

/// What the library says about the fabric of the first GPU, asked with this version of the struct.
fn fabric(nvml: &Nvml, version: u32) -> (u32, sys::nvmlGpuFabricInfo_v3_t) {
    let mut info = sys::nvmlGpuFabricInfo_v3_t {
        version: size_of::<sys::nvmlGpuFabricInfo_v3_t>() as u32 | version << 24,
        clusterUuid: [0; 16],
        status: 0,
        cliqueId: 0,
        state: 0,
        healthMask: 0,
        healthSummary: 0,
    };
    let device = nvml.device_by_index(0).unwrap();
    let call = *nvml.lib().nvmlDeviceGetGpuFabricInfoV.as_ref().unwrap();
    // SAFETY: the library is loaded, and the struct is the largest that the call fills.
    let answer = unsafe { call(device.handle(), &mut info) };
    (answer, info)
}

#[test]
fn health_of_an_idle_machine() {
    use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError, TemperatureSensor};
    use nvml_wrapper::structs::device::FieldId;

    let node = Node::new("dgx-h100");
    let nvml = node.nvml();
    let device = nvml.device_by_index(0).unwrap();
    assert_eq!(device.temperature(TemperatureSensor::Gpu).unwrap(), 34);
    assert_eq!(device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile).unwrap(), 0);
    assert_eq!(device.running_compute_processes().unwrap().len(), 0);
    let fields = [sys::field_id::NVML_FI_DEV_NVLINK_LINK_COUNT, 1_000].map(FieldId);
    let values = device.field_values_for(&fields).unwrap();
    let links = values[0].as_ref().unwrap().value.as_ref().unwrap();
    assert!(matches!(links, nvml_wrapper::enums::device::SampleValue::U32(18)), "{links:?}");
    assert!(matches!(values[1].as_ref().unwrap().value, Err(NvmlError::NotSupported)));
}
