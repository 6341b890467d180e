//! The record of calls: what a client asked, and what of it changed the machine.

use crate::support::Node;

#[test]
fn calls_are_kept_with_their_gpu_and_what_they_changed() {
    let node = Node::new("dgx-h100");
    let nvml = node.nvml();
    let device = nvml.device_by_index(2).unwrap();
    let pci = node.machine.hardware().unwrap().gpus[2].pci;
    node.run("record on");
    assert_eq!(nvml.device_count().unwrap(), 8);
    device.set_mig_mode(true).unwrap();
    node.run("set 2 fail=nvmlDeviceGetName:UNKNOWN");
    device.name().unwrap_err();
    node.run("record off");
    device.uuid().unwrap();

    let calls: Vec<_> = node.machine.calls().unwrap().iter().map(ToString::to_string).collect();
    let expected = [
        "nvmlDeviceGetCount_v2".to_owned(),
        format!("nvmlDeviceSetMigMode {pci} changed"),
        format!("nvmlDeviceGetName {pci}"),
    ];
    assert_eq!(calls, expected);
    assert_eq!(node.machine.run(&["calls"]).unwrap(), expected.map(|call| call + "\n").concat());
    node.run("record on");
    assert_eq!(node.machine.calls().unwrap(), [], "those before are forgotten");
}

#[test]
fn calls_of_several_threads_keep_apart() {
    let node = Node::new("mixed");
    let clients = [node.nvml(), node.nvml()];
    node.run("record on");
    std::thread::scope(|scope| {
        for client in &clients {
            scope.spawn(move || (0..50).for_each(|_| assert_eq!(client.device_count().unwrap(), 3)));
        }
    });
    assert_eq!(node.machine.calls().unwrap().len(), 100);
}
