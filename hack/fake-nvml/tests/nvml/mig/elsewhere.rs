//! What one process cuts, others see, and so do those who look at files.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::Command;

use simulated_hardware::Machine;

use super::calls::{Client, NOT_FOUND};
use crate::support::Node;

/// The other process: this executable again, with the one test below.
fn elsewhere(node: &Node, what: &str) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "mig::elsewhere::another_process", "--ignored"])
        .env("NODE", node.machine.root())
        .env("WHAT", what)
        .status();
    assert!(status.unwrap().success());
}

#[test]
#[ignore = "the other process of the tests here"]
fn another_process() {
    let machine = Machine::open(std::env::var_os("NODE").unwrap().as_ref()).unwrap();
    let client = Client::at(&machine.library());
    let gpu = client.gpu(0).unwrap();
    match std::env::var("WHAT").unwrap().as_str() {
        "make" => {
            let parent = client.create_at(gpu, 9, 4, 4).unwrap();
            client.create_compute(parent, 2).unwrap();
        }
        "destroy" => {
            let parent = client.by_id(gpu, 2).unwrap();
            client.destroy_compute(client.compute_by_id(parent, 0).unwrap()).unwrap();
            client.destroy(parent).unwrap();
        }
        other => panic!("{other}"),
    }
}

#[test]
fn instances_outlive_who_made_them() {
    let node = Node::cut("dgx-h100");
    let client = Client::new(&node);
    let gpu = client.gpu(0).unwrap();
    elsewhere(&node, "make");
    let device = client.mig_device(gpu, 0).unwrap();
    let uuid = client.uuid(device).unwrap();
    assert_eq!(client.gpu_instance_id(device), Ok(2));
    elsewhere(&node, "destroy");
    assert_eq!((client.mig_device(gpu, 0), client.by_uuid(&uuid)), (Err(NOT_FOUND), Err(NOT_FOUND)));
    elsewhere(&node, "make");
    assert_ne!(client.uuid(client.mig_device(gpu, 0).unwrap()).unwrap(), uuid);
    node.run("reboot");
    assert_eq!((client.mode(gpu), client.mig_device(gpu, 0)), (Ok((0, 0)), Err(NOT_FOUND)));
}

/// Writers of several processes, and threads of one, take turns: each slice goes to one of them.
#[test]
fn a_slice_goes_to_one() {
    let node = Node::cut("dgx-h100");
    let client = Client::new(&node);
    let made: usize = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let gpu = client.gpu(0).unwrap();
                    (0..7).filter(|start| client.create_at(gpu, 19, *start, 1).is_ok()).count()
                })
            })
            .collect();
        makers.into_iter().map(|maker| maker.join().unwrap()).sum()
    });
    assert_eq!(made, 7);
    assert_eq!(client.instances(client.gpu(0).unwrap(), 19).unwrap().len(), 7);
}

/// The number in a capability file, whose node in `dev/` must be there.
fn capability(node: &Node, path: &str) -> Option<u64> {
    let root = node.machine.root();
    let text = fs::read_to_string(root.join("proc/driver/nvidia/capabilities").join(path)).ok()?;
    let minor: u64 = text.lines().find_map(|line| line.strip_prefix("DeviceFileMinor: "))?.parse().unwrap();
    let device = fs::symlink_metadata(root.join(format!("dev/nvidia-caps/nvidia-cap{minor}"))).unwrap();
    // Who may not make nodes gets files.
    if device.file_type().is_char_device() {
        assert_eq!((device.rdev() >> 8 & 0xfff, device.rdev() & 0xff | device.rdev() >> 12 & 0xfff00), (4, minor));
    }
    Some(minor)
}

#[test]
fn capabilities_are_there_before_a_call_returns() {
    let node = Node::cut("dgx-h100");
    let client = Client::new(&node);
    let gpu = client.gpu(0).unwrap();
    assert!(fs::read_to_string(node.machine.root().join("proc/devices")).unwrap().contains("  4 nvidia-caps\n"));
    assert_eq!((capability(&node, "mig/config"), capability(&node, "mig/monitor")), (Some(56), Some(57)));
    let parent = client.create_at(gpu, 14, 0, 2).unwrap();
    let parent_minor = capability(&node, "gpu0/mig/gi3/access").unwrap();
    assert_eq!(capability(&node, "gpu0/mig/gi3/ci0/access"), None);
    let own = client.create_compute(parent, 1).unwrap();
    let own_minor = capability(&node, "gpu0/mig/gi3/ci0/access").unwrap();
    assert_ne!(own_minor, parent_minor);
    let list = fs::read_to_string(node.machine.root().join("proc/driver/nvidia-caps/mig-minors")).unwrap();
    assert_eq!(
        list,
        format!("config 56\nmonitor 57\ngpu0/gi3/ci0/access {own_minor}\ngpu0/gi3/access {parent_minor}\n")
    );
    node.run("set 0 minor=9");
    assert_eq!(capability(&node, "gpu9/mig/gi3/access"), Some(parent_minor), "the directory has the minor's name");
    client.destroy_compute(own).unwrap();
    assert_eq!(capability(&node, "gpu9/mig/gi3/ci0/access"), None);
    client.destroy(parent).unwrap();
    let left: Vec<_> = fs::read_dir(node.machine.root().join("dev/nvidia-caps"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(!node.machine.root().join("proc/driver/nvidia/capabilities/gpu9").exists());
}
