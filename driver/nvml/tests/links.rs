//! What the library tells of NVLinks, on simulated machines.

#![allow(clippy::unwrap_used, reason = "a test may")]

use simulated_hardware::{Machine, Profile};
use tempfile::TempDir;
use tessera_nvml::{FabricInfo, FabricState, FarEnd, GpuLinks, Library};

struct Node {
    machine: Machine,
    _directory: TempDir,
}

impl Node {
    fn new(profile: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let library = simulated_hardware::library().unwrap();
        let machine = Machine::create(directory.path(), &Profile::named(profile).unwrap(), &library).unwrap();
        Self { machine, _directory: directory }
    }

    fn run(&self, command: &str) {
        self.machine.run(&command.split(' ').collect::<Vec<_>>()).unwrap();
    }

    /// Of the first GPU.
    fn links(&self) -> GpuLinks {
        let uuid = self.machine.hardware().unwrap().gpus[0].uuid.clone();
        Library::open(&self.machine.library()).unwrap().links(&uuid)
    }
}

#[test]
fn links_and_fabric_of_every_machine() {
    let completed = |cluster, clique| Some(FabricInfo { cluster, clique, state: FabricState::Completed });
    let rack = 0xc7d3e2f1_5b64_4a8e_9f10_2d6b8a4c7e35_u128.to_be_bytes();
    for (profile, links, switch, fabric) in [
        ("dgx-a100", 12, "00000000:C4:00.0", None),
        ("dgx-h100", 18, "00000000:07:00.0", completed([0; 16], 0)),
        ("h100x16", 18, "00000000:07:00.0", completed([0; 16], 0)),
        ("hgx-b200", 18, "fffffff:ffff:ff", completed([0; 16], 0)),
        ("gb200", 18, "fffffff:ffff:ff", completed(rack, 32766)),
        ("mixed", 0, "", None),
        ("rtx-pro", 0, "", None),
    ] {
        let told = Node::new(profile).links();
        assert_eq!((told.active.len(), &told.fabric), (links, &fabric), "{profile}");
        let first = told.active.first().map(|link| link.far_end.clone());
        assert_eq!(first, (links > 0).then(|| FarEnd::Switch(Some(switch.to_owned()))), "{profile}");
        assert!(told.active.iter().map(|link| link.number).eq(0..links as u32), "{profile}");
    }
}

#[test]
fn links_to_peers_and_links_that_are_down() {
    let node = Node::new("hgx-a100-4");
    node.machine.update(|hardware| hardware.gpus[0].links_down.insert(5)).unwrap();
    let told = node.links();
    let numbers: Vec<_> = told.active.iter().map(|link| link.number).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]);
    for (link, peer) in [(0, "00000000:41:00.0"), (4, "00000000:81:00.0"), (10, "00000000:C1:00.0")] {
        assert_eq!(told.active[link].far_end, FarEnd::Gpu(peer.to_owned()));
    }
}

#[test]
fn what_the_driver_lacks_is_left_out() {
    let all = Node::new("dgx-h100").links();
    for (fault, links, known_ends, fabric) in [
        ("nvmlDeviceGetGpuFabricInfoV:FUNCTION_NOT_FOUND", 18, 18, true),
        ("nvmlDeviceGetGpuFabricInfoV:ARGUMENT_VERSION_MISMATCH", 18, 18, true),
        ("nvmlDeviceGetNvLinkState:FUNCTION_NOT_FOUND", 0, 0, true),
        ("nvmlDeviceGetNvLinkRemoteDeviceType:FUNCTION_NOT_FOUND", 18, 0, true),
        ("nvmlDeviceGetNvLinkRemotePciInfo_v2:FUNCTION_NOT_FOUND", 18, 18, true),
        ("*:GPU_IS_LOST", 0, 0, false),
    ] {
        let node = Node::new("dgx-h100");
        let uuid = node.machine.hardware().unwrap().gpus[0].uuid.clone();
        let library = Library::open(&node.machine.library()).unwrap();
        node.run(&format!("set fail={fault}"));
        let told = library.links(&uuid);
        let ends = told.active.iter().filter(|link| link.far_end != FarEnd::Other).count();
        assert_eq!((told.active.len(), ends), (links, known_ends), "{fault}");
        assert_eq!(told.fabric, all.fabric.clone().filter(|_| fabric), "{fault}");
    }
    let node = Node::new("dgx-h100");
    let library = Library::open(&node.machine.library()).unwrap();
    assert_eq!(library.links("GPU-none"), GpuLinks::default());
}

#[test]
fn registration_that_is_under_way() {
    let node = Node::new("dgx-h100");
    for (state, expected) in [
        (simulated_hardware::FabricState::NotStarted, FabricState::NotStarted),
        (simulated_hardware::FabricState::InProgress, FabricState::InProgress),
        (simulated_hardware::FabricState::Completed, FabricState::Completed),
    ] {
        node.machine.update(|hardware| hardware.gpus[0].fabric.as_mut().unwrap().state = state).unwrap();
        assert_eq!(node.links().fabric.unwrap().state, expected);
    }
}
