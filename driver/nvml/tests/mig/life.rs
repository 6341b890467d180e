//! The mode, instances in use, and what others do meanwhile.

use tessera_nvml::{ErrorClass, GpuInstanceId, GpuProcess, MigMode, MigProfileId, ModeChange, Placement};

use crate::support::Node;

#[test]
fn a_mode_comes_at_once_or_after_a_reset() {
    let node = Node::new("a100-h100");
    let library = node.library();
    for (gpu, change, current) in [(0, ModeChange::NeedsReset, false), (1, ModeChange::Done, true)] {
        let mig = library.mig_gpu(&node.uuid(gpu)).unwrap();
        assert_eq!(mig.set_mode(true).unwrap(), change);
        assert_eq!(mig.mode().unwrap(), Some(MigMode { current, pending: true }));
        assert_eq!(mig.set_mode(true).unwrap(), change, "asked again, it waits still or is there");
    }
    node.run("reset 0");
    let mig = library.mig_gpu(&node.uuid(0)).unwrap();
    assert_eq!(mig.mode().unwrap(), Some(MigMode { current: true, pending: true }));
    node.run("reboot");
    assert_eq!(mig.mode().unwrap(), Some(MigMode { current: true, pending: true }), "Ampere's InfoROM keeps it");
    let hopper = library.mig_gpu(&node.uuid(1)).unwrap();
    assert_eq!(hopper.mode().unwrap(), Some(MigMode { current: false, pending: false }));
    assert_eq!(hopper.gpu_instances().unwrap(), []);
}

#[test]
fn a_gpu_that_cannot_be_cut() {
    let node = Node::new("mixed");
    let library = node.library();
    let mig = library.mig_gpu(&node.uuid(1)).unwrap();
    assert_eq!(mig.mode().unwrap(), None);
    assert_eq!(mig.profiles().unwrap(), []);
    assert_eq!(mig.gpu_instances().unwrap(), []);
    assert_eq!(mig.devices().unwrap(), []);
    let refused = mig.set_mode(true).unwrap_err();
    assert_eq!((refused.class(), refused.code()), (ErrorClass::NotSupported, Some(3)));
    let refused = mig.create_gpu_instance(MigProfileId(19), Placement { start: 0, size: 1 }).unwrap_err();
    assert_eq!(refused.class(), ErrorClass::NotSupported);
}

#[test]
fn what_is_in_use_is_busy() {
    let node = Node::new("dgx-h100");
    let library = node.library();
    let mig = library.mig_gpu(&node.uuid(0)).unwrap();
    node.run("process 0 start pid=41 memory_mib=512");
    assert_eq!(mig.processes().unwrap(), [GpuProcess { pid: 41, instance: None }]);
    let refused = mig.set_mode(true).unwrap_err();
    assert_eq!((refused.call, refused.class()), ("nvmlDeviceSetMigMode", ErrorClass::Busy));
    assert_eq!(refused.device.as_deref(), Some(mig.uuid()));
    assert_eq!(mig.mode().unwrap(), Some(MigMode { current: false, pending: true }), "the driver has noted it");
    node.run("process 0 stop pid=41");
    assert_eq!(mig.set_mode(true).unwrap(), ModeChange::Done);

    let parent = mig.create_gpu_instance(MigProfileId(9), Placement { start: 4, size: 4 }).unwrap();
    let own = mig.create_whole_compute_instance(parent.id).unwrap();
    assert_eq!(mig.destroy_gpu_instance(parent.id).unwrap_err().class(), ErrorClass::Busy);
    assert_eq!(mig.set_mode(false).unwrap_err().class(), ErrorClass::Busy);
    node.run("process 0 start pid=42 gi=2 ci=0");
    assert_eq!(mig.processes().unwrap(), [GpuProcess { pid: 42, instance: Some((parent.id, own.id)) }]);
    assert_eq!(mig.destroy_compute_instance(parent.id, own.id).unwrap_err().class(), ErrorClass::Busy);
    node.run("process 0 stop pid=42");
    mig.destroy_compute_instance(parent.id, own.id).unwrap();
    mig.destroy_gpu_instance(parent.id).unwrap();
    assert_eq!(mig.set_mode(false).unwrap(), ModeChange::Done);
}

#[test]
fn what_others_destroyed_is_gone() {
    let node = Node::cut("dgx-h100");
    let library = node.library();
    let mig = library.mig_gpu(&node.uuid(0)).unwrap();
    let parent = mig.create_gpu_instance(MigProfileId(14), Placement { start: 2, size: 2 }).unwrap();
    let own = mig.create_whole_compute_instance(parent.id).unwrap();
    let uuid = own.uuid.clone().unwrap();
    node.run(&format!("mig 0 destroy {}", parent.id));
    for gone in [
        mig.destroy_gpu_instance(parent.id).unwrap_err(),
        mig.destroy_compute_instance(parent.id, own.id).unwrap_err(),
        mig.create_whole_compute_instance(parent.id).unwrap_err(),
        mig.gpu_instance(parent.id).unwrap_err(),
        library.mig_device(&uuid).unwrap_err(),
        library.mig_gpu("GPU-none").err().unwrap(),
    ] {
        assert_eq!(gone.class(), ErrorClass::Gone, "{gone}");
    }
    node.run("mig 0 create 2g.20gb@2");
    let again = mig.gpu_instance(parent.id).unwrap();
    assert_eq!(again.id, GpuInstanceId(4), "the id is the old one");
    assert_ne!(again.compute_instances[0].uuid, Some(uuid), "and the device another");
}

#[test]
fn a_gpu_instance_shared_by_two() {
    let node = Node::cut("dgx-h100");
    let library = node.library();
    let mig = library.mig_gpu(&node.uuid(0)).unwrap();
    let parent = mig.create_gpu_instance(MigProfileId(9), Placement { start: 0, size: 4 }).unwrap();
    let rows = mig.compute_profiles(parent.id).unwrap();
    let sizes: Vec<_> = rows.iter().map(|row| (row.slices, row.multiprocessors, row.instance_count)).collect();
    assert_eq!(sizes, [(1, 16, 3), (2, 32, 1), (3, 60, 1)]);
    let two = mig.create_compute_instance(parent.id, rows[1].id).unwrap();
    let one = mig.create_compute_instance(parent.id, rows[0].id).unwrap();
    assert_eq!((two.placement, one.placement), (Placement { start: 0, size: 2 }, Placement { start: 2, size: 1 }));
    let full = mig.create_compute_instance(parent.id, rows[0].id).unwrap_err();
    assert_eq!((full.class(), full.code()), (ErrorClass::Occupied, Some(23)));
    assert_eq!(
        full.to_string(),
        format!("nvmlGpuInstanceCreateComputeInstance of {}: insufficient resources", mig.uuid())
    );
}
