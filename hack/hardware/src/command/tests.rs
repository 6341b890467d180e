//! The command language: what it does, and what it says about mistakes.

use super::*;
use crate::hardware::Hardware;
use crate::{EventType, Fault, NvmlError, Profile};

fn dgx() -> Hardware {
    Profile::named("dgx-h100").unwrap().hardware()
}

fn try_run(hardware: &mut Hardware, command: &str) -> Result<(), CommandError> {
    match Command::parse(&command.split_whitespace().collect::<Vec<_>>())? {
        Command::List => Ok(()),
        Command::Change(change) => change.apply(hardware),
    }
}

/// The machine after some commands.
fn after(commands: &[&str]) -> Hardware {
    let mut hardware = dgx();
    for command in commands {
        try_run(&mut hardware, command).unwrap_or_else(|error| panic!("{command}: {error}"));
    }
    hardware
}

#[test]
fn gpus_go_by_index_uuid_and_address() {
    let gpu = dgx().gpus[3].clone();
    for name in ["3".to_owned(), gpu.uuid.clone(), gpu.pci.to_string(), gpu.pci.nvml()] {
        let hardware = after(&[&format!("set {name} lost=true")]);
        let lost: Vec<_> = hardware.gpus.iter().filter(|gpu| gpu.lost).map(|gpu| gpu.pci).collect();
        assert_eq!(lost, [gpu.pci], "{name}");
    }
}

#[test]
fn fields_of_a_gpu_and_of_the_machine() {
    let hardware =
        after(&["set 3 present=false", "set 0 minor=9 lost=true", "set driver.version=570.1 driver.cuda=12.8"]);
    assert!(!hardware.gpus[3].present && hardware.gpus[0].lost);
    assert_eq!(hardware.gpus[0].minor, 9);
    assert_eq!((hardware.driver.nvml_version(), hardware.driver.cuda.number()), ("12.570.1".to_owned(), 12080));
    let free = after(&["set 3 present=false", "set 0 minor=3"]);
    assert_eq!(free.gpus[0].minor, 3, "an absent GPU holds no number");
}

#[test]
fn faults_come_and_go() {
    let pci = dgx().gpus[0].pci;
    let uuid = Fault { id: 1, gpu: Some(pci), error: Some(NvmlError::GPU_IS_LOST), ..Fault::new("nvmlDeviceGetUUID") };
    let slow = Fault { id: 2, gpu: Some(pci), latency_ms: 500, ..Fault::new("*") };
    let init = Fault {
        id: 3,
        error: Some(NvmlError::DRIVER_NOT_LOADED),
        latency_ms: 20,
        from: 2,
        times: Some(1),
        ..Fault::new("nvmlInit_v2")
    };
    let all = [
        "set 0 fail=nvmlDeviceGetUUID:GPU_IS_LOST",
        "set 0 latency_ms=500",
        "set fail=nvmlInit_v2:DRIVER_NOT_LOADED latency_ms=20 from=2 times=1",
    ];
    assert_eq!(after(&all).faults, [uuid.clone(), slow, init.clone()]);
    let with = |more: &str| after(&[all[0], all[1], all[2], more]).faults;
    assert_eq!(with("set 0 latency_ms=0"), [uuid, init.clone()]);
    assert_eq!(with("set 0 fail=none"), [init]);
    assert_eq!(with("set fail=none"), []);
    let one = after(&["set latency_ms=5 function=nvmlDeviceGetName"]).faults;
    assert_eq!((one[0].function.as_str(), one[0].gpu), ("nvmlDeviceGetName", None));
}

#[test]
fn events_are_numbered_and_79_takes_the_gpu_away() {
    let hardware = after(&["event 1 xid=31 gi=2 ci=0", "event 0 xid=79", "event 2 double_bit_ecc=1"]);
    let kinds: Vec<_> = hardware.events.iter().map(|event| (event.sequence, event.kind, event.data)).collect();
    assert_eq!(kinds, [(1, EventType::Xid, 31), (2, EventType::Xid, 79), (3, EventType::DoubleBitEcc, 1)]);
    assert_eq!((hardware.events[0].gpu_instance, hardware.events[0].compute_instance), (Some(2), Some(0)));
    let lost: Vec<bool> = hardware.gpus.iter().take(3).map(|gpu| gpu.lost).collect();
    assert_eq!(lost, [true, false, false]);
}

#[test]
fn old_events_are_dropped() {
    let mut hardware = dgx();
    for _ in 0..1030 {
        try_run(&mut hardware, "event 0 xid=13").unwrap();
    }
    assert_eq!((hardware.events.len(), hardware.events[0].sequence, hardware.last_event), (1024, 7, 1030));
}

#[test]
fn mistakes_are_told_with_field_value_and_what_is_allowed() {
    for (command, field, value, problem) in [
        ("", "command", "", "allowed: list, set, event"),
        ("reset 0", "command", "reset", "allowed: list, set, event"),
        ("list all", "list", "all", "takes nothing more"),
        ("set", "field", "", "allowed: <field>=<value>"),
        ("set 3", "field", "", "allowed: <field>=<value>"),
        ("set 8 lost=true", "gpu", "8", "allowed: 0 to 7"),
        ("set gpu3 lost=true", "gpu", "gpu3", "allowed: an index"),
        ("set GPU-0 lost=true", "gpu", "GPU-0", "allowed: 0 to 7"),
        ("set lost=true", "lost", "", "needs a GPU"),
        ("set 0 driver.version=570.1", "driver.version", "0", "leave the GPU out"),
        ("set driver.version=../570", "driver.version", "../570", "like 570.1"),
        ("set driver.cuda=12", "driver.cuda", "12", "like 12.4"),
        ("set 0 lost=yes", "lost", "yes", "allowed: true, false"),
        ("set 0 los=true", "los", "true", "allowed: present, lost"),
        ("set 0 lost=true minor", "minor", "", "allowed: <field>=<value>"),
        ("set 0 minor=32", "minor", "32", "allowed: 0 to 31"),
        ("set 0 minor=1", "minor", "1", "GPU 1 has it"),
        ("set 0 fail=nvmlDeviceGetUUID", "fail", "nvmlDeviceGetUUID", "allowed: <function>:<error>"),
        ("set 0 fail=nvmlDeviceGetUUID:LOST", "fail", "nvmlDeviceGetUUID:LOST", "GPU_IS_LOST"),
        ("set 0 fail=nvmlInit:TIMEOUT", "function", "nvmlInit", "nvmlInitWithFlags, nvmlInit_v2"),
        ("set 0 fail=nvmlNone:TIMEOUT", "function", "nvmlNone", "allowed: * or an exported function"),
        ("set 0 from=2", "from", "2", "only with fail or latency_ms"),
        ("set 0 latency_ms=5 times=0", "times", "0", "1 or more"),
        ("event xid=79", "gpu", "", "allowed: an index"),
        ("event 0 xid=-1", "xid", "-1", "whole number"),
        ("event 0 sbe=1", "sbe", "1", "double_bit_ecc, xid"),
        ("event 0 gi=1", "type", "", "allowed: single_bit_ecc"),
    ] {
        let error = try_run(&mut dgx(), command).unwrap_err();
        assert_eq!((error.field.as_str(), error.value.as_str()), (field, value), "{command}: {error}");
        assert!(error.problem.contains(problem), "{command}: {error}");
    }
    let mut taken = after(&["set 3 present=false", "set 0 minor=3"]);
    assert_eq!(try_run(&mut taken, "set 3 present=true").unwrap_err().field, "minor");
}

#[test]
fn list_shows_gpus_and_faults() {
    let hardware = after(&["set 1 lost=true", "set 2 present=false", "set 3 fail=nvmlDeviceGetUUID:TIMEOUT times=2"]);
    insta::assert_snapshot!(Listing::of(&hardware));
}
