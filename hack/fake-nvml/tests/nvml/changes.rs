//! The machine changes under a client.

use std::process::Command;

use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::InitFlags;
use nvml_wrapper::enum_wrappers::device::ComputeMode;
use nvml_wrapper::error::NvmlError;
use simulated_hardware::Machine;

use crate::support::Node;

/// Carries out commands in a process of its own: this executable again, with the one test below.
fn elsewhere(node: &Node, command: &str) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "changes::another_process", "--ignored"])
        .env("NODE", node.machine.root())
        .env("FAKE_NVML_HARDWARE", node.machine.root().join("hardware.json"))
        .env("COMMAND", command)
        .status();
    assert!(status.unwrap().success());
}

#[test]
#[ignore = "the other process of the tests here"]
fn another_process() {
    let machine = Machine::open(std::env::var_os("NODE").unwrap().as_ref()).unwrap();
    match std::env::var("COMMAND").unwrap().as_str() {
        "set compute mode" => {
            let nvml = Nvml::builder().lib_path(machine.library().as_os_str()).init().unwrap();
            nvml.device_by_index(1).unwrap().set_compute_mode(ComputeMode::ExclusiveProcess).unwrap();
        }
        "count through a copy" => {
            let elsewhere = tempfile::tempdir().unwrap();
            let library = elsewhere.path().join("libnvidia-ml.so.1");
            std::fs::copy(machine.library(), &library).unwrap();
            let nvml = Nvml::builder().lib_path(library.as_os_str()).init().unwrap();
            assert_eq!(nvml.device_count().unwrap(), 3);
        }
        command => drop(machine.run(&command.split(' ').collect::<Vec<_>>()).unwrap()),
    }
}

#[test]
fn a_change_by_another_process_is_seen() {
    let node = Node::new("dgx-h100");
    let nvml = node.nvml();
    let device = nvml.device_by_index(1).unwrap();
    assert_eq!(device.minor_number().unwrap(), 1);
    elsewhere(&node, "set 1 minor=12");
    assert_eq!(device.minor_number().unwrap(), 12);
    elsewhere(&node, "set driver.version=570.1");
    assert_eq!(nvml.sys_driver_version().unwrap(), "570.1");
    elsewhere(&node, "set compute mode");
    assert_eq!(device.compute_mode().unwrap(), ComputeMode::ExclusiveProcess);
    assert_eq!(nvml.device_by_index(0).unwrap().compute_mode().unwrap(), ComputeMode::Default);
}

#[test]
fn each_of_many_quick_changes_is_seen() {
    let node = Node::new("mixed");
    let nvml = node.nvml();
    let device = nvml.device_by_index(0).unwrap();
    for round in 0..50 {
        let minor = 10 + round % 2;
        node.run(&format!("set 0 minor={minor}"));
        assert_eq!(device.minor_number().unwrap(), minor, "{round}");
    }
}

#[test]
fn an_unplugged_gpu_goes_at_the_next_count() {
    let node = Node::new("dgx-h100");
    let nvml = node.nvml();
    let (third, fourth) = (nvml.device_by_index(3).unwrap(), nvml.device_by_index(4).unwrap());
    let (uuid, after) = (third.uuid().unwrap(), fourth.uuid().unwrap());
    node.run("set 3 present=false");
    assert!(matches!(third.name(), Err(NvmlError::GpuLost)), "under a handle it is lost");
    assert!(matches!(nvml.device_by_index(3), Err(NvmlError::GpuLost)), "the enumeration is the old one");
    assert_eq!(nvml.device_count().unwrap(), 7);
    assert_eq!(nvml.device_by_index(3).unwrap().uuid().unwrap(), after, "indices close up");
    assert_eq!(fourth.index().unwrap(), 3, "handles stay good");
    assert!(matches!(nvml.device_by_uuid(uuid.as_str()), Err(NvmlError::NotFound)));
    node.run("set 3 present=true");
    assert_eq!(nvml.device_count().unwrap(), 8);
    assert_eq!(third.uuid().unwrap(), uuid);
}

#[test]
fn a_lost_gpu_is_counted_and_answers_nothing() {
    let node = Node::new("dgx-h100");
    let nvml = node.nvml();
    let device = nvml.device_by_index(3).unwrap();
    let uuid = device.uuid().unwrap();
    node.run("set 3 lost=true");
    assert_eq!(nvml.device_count().unwrap(), 8);
    for answer in [device.name(), device.uuid(), device.serial()] {
        assert!(matches!(answer, Err(NvmlError::GpuLost)));
    }
    assert!(matches!(nvml.device_by_index(3), Err(NvmlError::GpuLost)));
    assert!(matches!(nvml.device_by_uuid(uuid.as_str()), Err(NvmlError::GpuLost)));
    assert!(nvml.device_by_index(4).unwrap().name().is_ok(), "the others are well");
    node.run("set 3 lost=false");
    assert_eq!(device.uuid().unwrap(), uuid);
}

#[test]
fn without_gpus_only_who_asks_for_it_gets_in() {
    let node = Node::new("mixed");
    for gpu in 0..3 {
        node.run(&format!("set {gpu} present=false"));
    }
    assert!(matches!(node.try_nvml(), Err(NvmlError::NotFound)));
    let library = node.library();
    let nvml = Nvml::builder().lib_path(library.as_os_str()).flags(InitFlags::NO_GPUS).init().unwrap();
    assert_eq!(nvml.device_count().unwrap(), 0);
}

#[test]
fn a_library_without_a_machine_says_so() {
    let node = Node::new("mixed");
    let elsewhere = tempfile::tempdir().unwrap();
    let library = elsewhere.path().join("libnvidia-ml.so.1");
    std::fs::copy(node.library(), &library).unwrap();
    let answer = Nvml::builder().lib_path(library.as_os_str()).init();
    assert!(matches!(answer, Err(NvmlError::DriverNotLoaded)));
}

#[test]
fn the_environment_overrules_the_place() {
    elsewhere(&Node::new("mixed"), "count through a copy");
}

#[test]
fn a_machine_that_boots_again_is_a_fresh_one() {
    let node = Node::new("mixed");
    let nvml = node.nvml();
    node.run("set 0 minor=9 lost=true");
    let profile = simulated_hardware::Profile::named("mixed").unwrap();
    Machine::create(node.machine.root(), &profile, &simulated_hardware::library().unwrap()).unwrap();
    assert_eq!(nvml.device_by_index(0).unwrap().minor_number().unwrap(), 0);
}
