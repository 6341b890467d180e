//! The command language: what it does, and what it says about mistakes.

use super::*;
use crate::hardware::Hardware;
use crate::{EventType, Fault, NvmlError, Profile};

fn dgx() -> Hardware {
    Profile::named("dgx-h100").unwrap().hardware()
}

fn try_run(hardware: &mut Hardware, command: &str) -> Result<(), CommandError> {
    match Command::parse(&command.split_whitespace().collect::<Vec<_>>())? {
        Command::List | Command::Calls | Command::Record(_) => Ok(()),
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
        ("", "command", "", "allowed: list, set, event, mig, process, reset, reboot"),
        ("cut 0", "command", "cut", "allowed: list, set, event, mig, process, reset, reboot"),
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
        ("mig", "gpu", "", "allowed: an index"),
        ("mig 0", "mig", "", "allowed: on, off, create <profile>[@<start>], destroy <gi>"),
        ("mig 0 maybe now", "mig", "maybe now", "allowed: on, off"),
        ("mig 0 create 1g.10gb@x", "start", "x", "whole number"),
        ("mig 0 create 1g.10gb", "profile", "1g.10gb", "NOT_SUPPORTED: the mode is off: mig <gpu> on"),
        ("mig 0 create 1g.5gb", "profile", "1g.5gb", "allowed: 1g.10gb (19), 2g.20gb (14)"),
        ("mig 0 create 3g.40gb@2", "start", "2", "allowed: [0, 4]"),
        ("mig 0 destroy 7", "gi", "7", "allowed: []"),
        ("process 0", "process", "", "allowed: start, stop"),
        ("process 0 start", "field", "", "allowed: <field>=<value>"),
        ("process 0 start memory_mib=1", "pid", "", "1 or more"),
        ("process 0 start pid=0", "pid", "0", "1 or more"),
        ("process 0 start pid=1 gi=1", "gi", "", "gi=<id> ci=<id>"),
        ("process 0 start pid=1 gi=1 ci=0", "gi", "1 ci=0", "none: mig <gpu> create makes one"),
        ("process 0 start pid=1 name=x", "name", "x", "allowed: pid, memory_mib, gi, ci"),
        ("process 0 stop pid=1 gi=0", "gi", "0", "allowed: pid"),
        ("process 0 stop pid=1", "pid", "1", "no such process"),
        ("reset 0 now", "reset", "now", "nothing more"),
        ("reboot now", "reboot", "now", "nothing more"),
        ("record", "record", "", "allowed: on, off"),
        ("calls all", "calls", "all", "takes nothing more"),
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

/// What an admin does to the first GPU, and what stands in the way.
#[test]
fn a_gpu_is_cut_by_hand() {
    let cut =
        ["mig 0 on", "mig 0 create 3g.40gb@4", "mig 0 create 19", "process 0 start pid=7 memory_mib=100 gi=2 ci=0"];
    let hardware = after(&cut);
    let places: Vec<_> = hardware.gpus[0].mig.gpu_instances.iter().map(|one| (one.id, one.placement.start)).collect();
    assert_eq!(places, [(2, 4), (7, 0)]);
    for (command, field, problem) in [
        ("mig 0 off", "mig", "IN_USE: stop its processes first"),
        ("mig 0 create 2g.20gb@0", "profile", "no room beside 4:4, 0:1"),
        ("mig 0 destroy 2", "gi", "IN_USE: stop its processes first"),
        ("mig 0 destroy 3", "gi", "allowed: [2, 7]"),
        ("reset 0", "gpu", "IN_USE"),
        ("process 0 start pid=8", "gi", "allowed: gi=<id> ci=<id>"),
        ("process 0 start pid=8 gi=2 ci=1", "gi", "allowed: gi=2 ci=0, gi=7 ci=0"),
        ("process 0 start pid=7 gi=7 ci=0", "pid", "runs there already"),
        ("mig 1 destroy 7", "gi", "allowed: []"),
    ] {
        let mut tried = hardware.clone();
        let error = try_run(&mut tried, command).unwrap_err();
        assert_eq!(error.field, field, "{command}: {error}");
        assert!(error.problem.contains(problem), "{command}: {error}");
        assert_eq!(tried, hardware, "{command}");
    }
    let emptied =
        after(&[&cut[..], &["process 0 stop pid=7", "mig 0 destroy 2", "mig 0 destroy 7", "mig 0 off"]].concat());
    assert_eq!(emptied.gpus, dgx().gpus);
}

#[test]
fn a_gpu_that_cannot_be_cut_says_so() {
    let mut hardware = Profile::named("mixed").unwrap().hardware();
    let error = try_run(&mut hardware, "mig 1 on").unwrap_err();
    assert!(error.problem.contains("this GPU cannot be cut"), "{error}");
}

#[test]
fn list_shows_what_a_gpu_is_cut_into() {
    let mut hardware = Profile::named("mixed").unwrap().hardware();
    for command in [
        "mig 0 on",
        "reset 0",
        "mig 0 create 2g.12gb",
        "mig 0 create 1g.6gb+me",
        "process 0 start pid=9 gi=1 ci=0",
        "mig 0 on",
    ] {
        try_run(&mut hardware, command).unwrap_or_else(|error| panic!("{command}: {error}"));
    }
    insta::assert_snapshot!(Listing::of(&hardware));
}

#[test]
fn tpus_go_and_come_and_change_their_drivers() {
    let mut hardware = Profile::named("tpu-v5e").unwrap().hardware();
    for command in
        ["set tpu3 present=false", "set tpu1 driver=none", "set tpu0 driver=google-tpu class=false number=12"]
    {
        try_run(&mut hardware, command).unwrap();
    }
    insta::assert_snapshot!(Listing::of(&hardware));
    for (command, part) in [
        ("set tpu8 present=false", "allowed: tpu0 to tpu7"),
        ("set tpu0 number=10", "another function has it"),
        ("set tpu0 number=7", "another function has it"),
        ("set tpu0 driver=../x", "the name of a kernel driver"),
        ("set tpu0 lost=true", "allowed: present, driver, number, class"),
        ("set tpu0", "missing"),
    ] {
        let error = try_run(&mut hardware, command).unwrap_err().to_string();
        assert!(error.contains(part), "{command}: {error}");
    }
    let mut both = Profile::named("nvidia-tpu").unwrap().hardware();
    let error = try_run(&mut both, "set 0 minor=12").unwrap_err().to_string();
    assert!(error.contains("a TPU has its device number"), "{error}");
    assert!(try_run(&mut dgx(), "set tpu0 present=false").unwrap_err().to_string().contains("allowed: none"));
}
