//! A machine on disk.

// Also in helpers of tests, which clippy.toml does not reach.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use simulated_hardware::{DeviceNodes, Error, Machine, Profile};
use tempfile::TempDir;

/// A machine with something that stands for the library.
fn machine(profile: &str) -> (TempDir, Machine) {
    let directory = tempfile::tempdir().unwrap();
    let library = directory.path().join("built.so");
    fs::write(&library, "library").unwrap();
    let machine = Machine::create(&directory.path().join("root"), &Profile::named(profile).unwrap(), &library).unwrap();
    (directory, machine)
}

fn read(machine: &Machine, path: &str) -> String {
    let path = machine.root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file below a directory but the state's, with what tells a new one from the old one.
fn files(directory: &Path) -> Vec<(PathBuf, u64, i64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let data = fs::symlink_metadata(&path).unwrap();
        if data.is_dir() {
            found.extend(files(&path));
        } else if !path.file_name().unwrap().to_string_lossy().starts_with("hardware.") {
            found.push((path, data.ino(), data.mtime_nsec()));
        }
    }
    found.sort();
    found
}

#[test]
fn sysfs_reads_as_on_the_machine() {
    let (_directory, machine) = machine("dgx-h100");
    let device = machine.root().join("sys/bus/pci/devices/0000:c3:00.0");
    let target = fs::canonicalize(&device).unwrap();
    let below = target.strip_prefix(machine.root()).unwrap();
    assert!(below.starts_with("sys/devices/pci0000:b7/0000:b7:01.0"), "{below:?}");
    for (file, content) in [
        ("vendor", "0x10de\n"),
        ("device", "0x2330\n"),
        ("subsystem_vendor", "0x10de\n"),
        ("subsystem_device", "0x16c1\n"),
        ("class", "0x030200\n"),
        ("numa_node", "1\n"),
        ("local_cpulist", "56-111,168-223\n"),
        ("current_link_speed", "32.0 GT/s PCIe\n"),
        ("current_link_width", "16\n"),
        ("drm/renderD133/dev", "226:133\n"),
    ] {
        assert_eq!(fs::read_to_string(device.join(file)).unwrap(), content, "{file}");
    }
    let driver = fs::canonicalize(device.join("driver")).unwrap();
    assert_eq!(driver, machine.root().join("sys/bus/pci/drivers/nvidia"));
    assert_eq!(fs::canonicalize(driver.join("0000:c3:00.0")).unwrap(), target);
}

#[test]
fn procfs_says_what_the_driver_says() {
    let (_directory, machine) = machine("dgx-h100");
    assert!(read(&machine, "proc/driver/nvidia/version").contains("  550.163.01  "));
    assert!(read(&machine, "proc/driver/nvidia/params").contains("ModifyDeviceFiles: 1\n"));
    let information = read(&machine, "proc/driver/nvidia/gpus/0000:43:00.0/information");
    for line in [
        "Model: \t\t NVIDIA H100 80GB HBM3\n",
        "GPU UUID: \t GPU-9b266fff-626c-364f-39b6-4685154e8afb\n",
        "Bus Location: \t 0000:43:00.0\n",
        "Device Minor: \t 1\n",
    ] {
        assert!(information.contains(line), "{information}");
    }
    assert!(read(&machine, "proc/devices").contains("  4 nvidia-uvm\n"));
}

#[test]
fn device_nodes_differ() {
    let (_directory, machine) = machine("h100x16");
    let names = (0..16).map(|minor| format!("nvidia{minor}"));
    let shared = ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"].map(str::to_owned);
    let paths: Vec<_> = names.chain(shared).map(|name| machine.root().join("dev").join(name)).collect();
    let data: Vec<_> = paths.iter().map(|path| fs::symlink_metadata(path).unwrap()).collect();
    assert!(data.iter().all(|data| data.mode() & 0o666 == 0o666 || data.is_file()));
    match machine.device_nodes().unwrap() {
        DeviceNodes::PlainFiles => assert!(data.iter().all(fs::Metadata::is_file)),
        DeviceNodes::Character => {
            let mut numbers: Vec<u64> = data.iter().map(MetadataExt::rdev).collect();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), paths.len());
            // Major 4; of the terminals, 20 to 63.
            assert!(numbers.iter().all(|number| (0x414..=0x43f).contains(number)), "{numbers:x?}");
        }
    }
}

#[test]
fn who_may_make_no_nodes_gets_files() {
    // Capabilities belong to the thread, so the other tests keep theirs.
    let thread = std::thread::spawn(|| {
        let mut mine = capabilities(None).unwrap();
        mine.effective.remove(CapabilitySet::MKNOD);
        set_capabilities(None, mine).unwrap();
        let (_directory, machine) = machine("mixed");
        assert_eq!(machine.device_nodes().unwrap(), DeviceNodes::PlainFiles);
        assert!(!fs::metadata(machine.root().join("dev/nvidia0")).unwrap().file_type().is_char_device());
        machine.run(&["set", "0", "minor=5"]).unwrap();
        assert!(machine.root().join("dev/nvidia5").is_file() && !machine.root().join("dev/nvidia0").exists());
    });
    thread.join().unwrap();
}

#[test]
fn rendering_again_touches_nothing() {
    let (_directory, machine) = machine("dgx-h100");
    let before = files(machine.root());
    machine.update(|_| ()).unwrap();
    assert_eq!(files(machine.root()), before);
}

#[test]
fn an_unplugged_gpu_takes_its_files_along_and_brings_them_back() {
    let (_directory, machine) = machine("dgx-h100");
    let before: Vec<_> = files(machine.root()).into_iter().map(|(path, ..)| path).collect();
    let theirs = machine.root().join("sys/bus/pci/devices/0000:00:1f.0");
    fs::write(&theirs, "another test's").unwrap();
    let gone = [
        "sys/bus/pci/devices/0000:61:00.0",
        "sys/devices/pci0000:59",
        "proc/driver/nvidia/gpus/0000:61:00.0",
        "dev/nvidia3",
    ];
    machine.run(&["set", "3", "present=false"]).unwrap();
    for path in gone {
        assert!(fs::symlink_metadata(machine.root().join(path)).is_err(), "{path}");
    }
    assert!(theirs.exists());
    machine.run(&["set", "3", "present=true"]).unwrap();
    fs::remove_file(&theirs).unwrap();
    let after: Vec<_> = files(machine.root()).into_iter().map(|(path, ..)| path).collect();
    assert_eq!(after, before);
}

#[test]
fn the_library_follows_the_driver() {
    let (_directory, machine) = machine("mixed");
    let directory = machine.root().join("usr/lib/x86_64-linux-gnu");
    assert_eq!(fs::read_link(machine.library()).unwrap(), Path::new("libnvidia-ml.so.580.95.05"));
    machine.run(&["set", "driver.version=590.1"]).unwrap();
    assert_eq!(fs::read_link(machine.library()).unwrap(), Path::new("libnvidia-ml.so.590.1"));
    assert!(!directory.join("libnvidia-ml.so.580.95.05").exists());
    assert_eq!(fs::read_to_string(machine.library()).unwrap(), "library");
    assert!(read(&machine, "proc/driver/nvidia/version").contains("590.1"));
}

#[test]
fn a_failed_change_changes_nothing() {
    let (_directory, machine) = machine("mixed");
    let before = machine.hardware().unwrap();
    let error = machine.run(&["set", "0", "lost=true", "minor=1"]).unwrap_err();
    assert!(matches!(error, Error::Command(_)), "{error}");
    assert_eq!(machine.hardware().unwrap(), before);
}

#[test]
fn a_cut_gpu_has_capabilities_until_the_next_boot() {
    let (_directory, machine) = machine("dgx-h100");
    let before: Vec<_> = files(machine.root()).into_iter().map(|(path, ..)| path).collect();
    machine.run(&["mig", "2", "on"]).unwrap();
    machine.run(&["mig", "2", "create", "3g.40gb@4"]).unwrap();
    let access = read(&machine, "proc/driver/nvidia/capabilities/gpu2/mig/gi2/ci0/access");
    assert_eq!(access, "DeviceFileMinor: 59\nDeviceFileMode: 292\nDeviceFileModify: 1\n");
    let node = machine.root().join("dev/nvidia-caps/nvidia-cap59");
    if machine.device_nodes().unwrap() == DeviceNodes::Character {
        // As root may, and the kernel's terminal drivers allow.
        fs::File::options().read(true).write(true).open(&node).unwrap();
        assert_eq!(fs::metadata(&node).unwrap().rdev(), 4 << 8 | 59);
    }
    let error = machine.run(&["mig", "2", "create", "7g.80gb"]).unwrap_err().to_string();
    assert!(error.contains("profile") && error.contains("no room beside 4:4"), "{error}");
    machine.run(&["reboot"]).unwrap();
    let after: Vec<_> = files(machine.root()).into_iter().map(|(path, ..)| path).collect();
    assert_eq!(after, before);
    assert!(!node.exists());
}

#[test]
fn opening_needs_a_machine() {
    let directory = tempfile::tempdir().unwrap();
    let error = Machine::open(directory.path()).unwrap_err();
    assert!(matches!(error, Error::File { action: "read", .. }), "{error}");
    fs::write(directory.path().join("hardware.json"), "[]").unwrap();
    let error = Machine::open(directory.path()).unwrap_err();
    assert!(matches!(error, Error::State { .. }) && error.to_string().contains("hardware.json"), "{error}");
    let (_directory, machine) = machine("mixed");
    assert_eq!(Machine::open(machine.root()).unwrap(), machine);
}

#[test]
fn a_second_boot_goes_on_counting() {
    let (directory, machine) = machine("mixed");
    machine.run(&["event", "0", "xid=13"]).unwrap();
    machine.run(&["set", "fail=nvmlInit_v2:TIMEOUT"]).unwrap();
    let library = directory.path().join("built.so");
    let again = Machine::create(machine.root(), &Profile::named("gb200").unwrap(), &library).unwrap();
    let hardware = again.hardware().unwrap();
    assert_eq!((hardware.profile.as_str(), hardware.events.len(), hardware.faults.len()), ("gb200", 0, 0));
    assert_eq!((hardware.last_event, hardware.last_fault), (1, 1));
    assert!(!again.root().join("sys/bus/pci/devices/0000:3b:00.0").exists());
}
