//! Instances from their creation to their end.

use std::ptr::null_mut;

use super::calls::{
    Answer, Client, IN_USE, INSUFFICIENT_RESOURCES, INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED, RESET_REQUIRED,
};
use crate::support::Node;

#[test]
fn the_mode_and_its_activation() {
    let node = Node::new("a100-h100");
    let client = Client::new(&node);
    let (ampere, hopper) = (client.gpu(0).unwrap(), client.gpu(1).unwrap());
    assert_eq!((client.set_mode(ampere, 1), client.mode(ampere)), (Ok(RESET_REQUIRED), Ok((0, 1))));
    assert_eq!(client.create(ampere, 19), Err(NOT_SUPPORTED), "pending is not enough");
    assert_eq!((client.set_mode(hopper, 1), client.mode(hopper)), (Ok(0), Ok((1, 1))));
    assert_eq!((client.most(ampere), client.most(hopper)), (Ok(0), Ok(7)));
    assert_eq!(client.set_mode(hopper, 2), Err(INVALID_ARGUMENT));
}

#[test]
fn a_mode_waits_for_processes() {
    let node = Node::new("dgx-h100");
    let client = Client::new(&node);
    let gpu = client.gpu(0).unwrap();
    node.run("process 0 start pid=7");
    assert_eq!((client.set_mode(gpu, 1), client.mode(gpu)), (Ok(IN_USE), Ok((0, 1))));
    node.run("process 0 stop pid=7");
    assert_eq!((client.set_mode(gpu, 1), client.mode(gpu)), (Ok(0), Ok((1, 1))));
    let made = client.create(gpu, 19).unwrap();
    assert_eq!((client.set_mode(gpu, 0), client.mode(gpu)), (Err(IN_USE), Ok((1, 1))), "an instance is in the way");
    client.destroy(made).unwrap();
    assert_eq!((client.set_mode(gpu, 0), client.mode(gpu)), (Ok(0), Ok((0, 0))));
}

#[test]
fn what_needs_the_mode_or_the_part() {
    let node = Node::new("mixed");
    let client = Client::new(&node);
    let (off, never) = (client.gpu(0).unwrap(), client.gpu(1).unwrap());
    for (gpu, profile) in [(off, 14), (never, 19)] {
        assert_eq!(client.create(gpu, profile), Err(NOT_SUPPORTED));
        assert_eq!(client.create_at(gpu, profile, 0, 1), Err(NOT_SUPPORTED));
        assert_eq!(client.instances(gpu, profile), Err(NOT_SUPPORTED));
        assert_eq!(client.by_id(gpu, 0), Err(NOT_SUPPORTED));
        assert_eq!(client.remaining(gpu, profile), Err(NOT_SUPPORTED));
        assert_eq!(client.most(gpu), Ok(0));
    }
    assert_eq!(client.mode(never), Err(NOT_SUPPORTED));
    assert_eq!(client.set_mode(never, 1), Err(NOT_SUPPORTED));
    assert_eq!(client.mig_device(never, 0), Err(NOT_SUPPORTED));
    assert_eq!(client.mig_device(off, 0), Err(NOT_FOUND));
    assert_eq!(client.mig_device(off, 4), Err(INVALID_ARGUMENT), "beyond what it could have");
}

/// 4g, 2g and 1g fill an A100, in places of the caller's choice.
#[test]
fn a_gpu_is_filled_to_the_last_slice() {
    let node = Node::cut("dgx-a100");
    let client = Client::new(&node);
    let gpu = client.gpu(0).unwrap();
    assert_eq!(client.remaining(gpu, 19), Ok(7));
    for (profile, start, size, id) in [(5, 0, 4, 1), (14, 4, 2, 5), (19, 6, 1, 13)] {
        let made = client.create_at(gpu, profile, start, size).unwrap();
        let info = client.info(made).unwrap();
        assert_eq!((info.device, info.id, info.profileId), (gpu, id, profile));
        assert_eq!((info.placement.start, info.placement.size), (start, size));
        assert_eq!(client.by_id(gpu, id), Ok(made));
        assert_eq!(client.instances(gpu, profile), Ok(vec![made]));
        assert_eq!(client.create_at(gpu, profile, start, size), Err(INSUFFICIENT_RESOURCES));
    }
    for profile in [19, 20, 15, 14, 9, 5, 0] {
        assert_eq!((client.remaining(gpu, profile), client.create(gpu, profile)), (Ok(0), Err(INSUFFICIENT_RESOURCES)));
    }
    assert_eq!(client.create_at(gpu, 19, 7, 1), Err(INVALID_ARGUMENT), "no 1g starts at 7");
    assert_eq!(client.create(gpu, 99), Err(INVALID_ARGUMENT));
    assert_eq!(client.remaining(gpu, 99), Err(INVALID_ARGUMENT));
    client.destroy(client.by_id(gpu, 5).unwrap()).unwrap();
    assert_eq!((client.remaining(gpu, 14), client.remaining(gpu, 19), client.remaining(gpu, 9)), (Ok(1), Ok(2), Ok(0)));
}

#[test]
fn compute_instances_share_their_parent() {
    let node = Node::cut("dgx-h100");
    let client = Client::new(&node);
    let parent = client.create(client.gpu(0).unwrap(), 9).unwrap();
    assert_eq!(client.compute_remaining(parent, 0), Ok(3));
    let first = client.create_compute_at(parent, 0, 1, 1).unwrap();
    assert_eq!(client.create_compute_at(parent, 1, 0, 2), Err(INSUFFICIENT_RESOURCES));
    assert_eq!(client.create_compute_at(parent, 1, 1, 2), Err(INVALID_ARGUMENT), "no 2c starts at 1");
    let second = client.create_compute(parent, 0).unwrap();
    let info = client.compute_info(second).unwrap();
    assert_eq!((info.device, info.gpuInstance), (client.gpu(0).unwrap(), parent));
    assert_eq!((info.id, info.profileId, info.placement.start, info.placement.size), (1, 0, 0, 1));
    assert_eq!(client.compute_instances(parent, 0), Ok(vec![first, second]));
    assert_eq!(client.compute_by_id(parent, 1), Ok(second));
    assert_eq!((client.compute_by_id(parent, 2), client.compute_remaining(parent, 0)), (Err(NOT_FOUND), Ok(1)));
    assert_eq!(client.destroy(parent), Err(IN_USE));
    client.destroy_compute(first).unwrap();
    client.destroy_compute(second).unwrap();
    client.destroy(parent).unwrap();
}

/// nvml.h has handles of what is destroyed stay invalid, also when its like is made again.
#[test]
fn old_handles_stay_invalid() {
    let node = Node::cut("dgx-h100");
    let client = Client::new(&node);
    let gpu = client.gpu(0).unwrap();
    let parent = client.create_at(gpu, 14, 2, 2).unwrap();
    let own = client.create_compute(parent, 1).unwrap();
    let device = client.mig_device(gpu, 0).unwrap();
    client.destroy_compute(own).unwrap();
    client.destroy(parent).unwrap();
    let again = client.create_at(gpu, 14, 2, 2).unwrap();
    client.create_compute(again, 1).unwrap();
    assert_eq!(client.info(again).unwrap().id, 4);
    assert_eq!(client.info(parent).unwrap_err(), INVALID_ARGUMENT);
    assert_eq!(client.destroy(parent), Err(INVALID_ARGUMENT));
    assert_eq!(client.create_compute(parent, 1), Err(INVALID_ARGUMENT));
    assert_eq!(client.compute_info(own).unwrap_err(), INVALID_ARGUMENT);
    assert_eq!(client.destroy_compute(own), Err(INVALID_ARGUMENT));
    assert_eq!(client.uuid(device), Err(INVALID_ARGUMENT));
    assert_eq!(client.by_id(gpu, 5), Err(NOT_FOUND));
    // Handles of other kinds, and none.
    assert_eq!(client.destroy(own.cast()), Err(INVALID_ARGUMENT));
    assert_eq!(client.destroy_compute(again.cast()), Err(INVALID_ARGUMENT));
    assert_eq!(client.destroy(gpu.cast()), Err(INVALID_ARGUMENT));
    assert_eq!(client.destroy(null_mut()), Err(INVALID_ARGUMENT));
}

/// An instance that nobody has the handle of would be in the way for ever.
#[test]
fn nothing_is_made_without_a_place_for_its_handle() {
    let node = Node::cut("dgx-h100");
    let client = Client::new(&node);
    let gpu = client.gpu(0).unwrap();
    // SAFETY: null pointers are what is tried here.
    unsafe {
        assert_eq!(client.library.nvmlDeviceCreateGpuInstance(gpu, 19, null_mut()), INVALID_ARGUMENT);
        let parent = client.create(gpu, 19).unwrap();
        assert_eq!(client.library.nvmlGpuInstanceCreateComputeInstance(parent, 0, null_mut()), INVALID_ARGUMENT);
        assert_eq!(client.library.nvmlDeviceSetMigMode(client.gpu(1).unwrap(), 1, null_mut()), INVALID_ARGUMENT);
        assert_eq!(
            client.library.nvmlDeviceCreateGpuInstanceWithPlacement(gpu, 19, std::ptr::null(), &mut null_mut()),
            INVALID_ARGUMENT
        );
    }
    assert_eq!(client.instances(gpu, 19).unwrap().len(), 1);
    assert_eq!(client.mig_device(gpu, 0), Err(NOT_FOUND));
    assert_eq!(client.mode(client.gpu(1).unwrap()), Ok((0, 0)));
}

/// Rules reach every call that changes something, and a call that fails changes nothing.
#[test]
fn each_write_can_be_made_to_fail() {
    let node = Node::cut("dgx-h100");
    let client = Client::new(&node);
    let gpu = client.gpu(0).unwrap();
    let parent = client.create(gpu, 9).unwrap();
    let own = client.create_compute(parent, 0).unwrap();
    let before = node.machine.hardware().unwrap().gpus;
    let writes: [(&str, &dyn Fn() -> Answer); 7] = [
        ("nvmlDeviceSetMigMode", &|| client.set_mode(gpu, 1).map(|_| ())),
        ("nvmlDeviceCreateGpuInstance", &|| client.create(gpu, 19).map(|_| ())),
        ("nvmlDeviceCreateGpuInstanceWithPlacement", &|| client.create_at(gpu, 19, 0, 1).map(|_| ())),
        ("nvmlGpuInstanceDestroy", &|| client.destroy(parent)),
        ("nvmlGpuInstanceCreateComputeInstance", &|| client.create_compute(parent, 0).map(|_| ())),
        ("nvmlGpuInstanceCreateComputeInstanceWithPlacement", &|| {
            client.create_compute_at(parent, 0, 1, 1).map(|_| ())
        }),
        ("nvmlComputeInstanceDestroy", &|| client.destroy_compute(own)),
    ];
    for (function, write) in writes {
        node.run(&format!("set 0 fail={function}:UNKNOWN times=1"));
        assert_eq!(write(), Err(999), "{function}");
        assert_eq!(node.machine.hardware().unwrap().gpus, before, "{function}");
        node.run(&format!("set 1 fail={function}:UNKNOWN"));
    }
    node.run("set fail=none");
    node.run("set 0 latency_ms=120 function=nvmlComputeInstanceDestroy");
    let start = std::time::Instant::now();
    client.destroy_compute(own).unwrap();
    assert!(start.elapsed() >= std::time::Duration::from_millis(120));
}
