//! Many threads in one library, while the machine changes.

use std::sync::atomic::{AtomicBool, Ordering};

use nvml_wrapper::error::NvmlError;

use crate::support::Node;

#[test]
fn threads_see_old_or_new_and_nothing_else() {
    let node = Node::new("dgx-h100");
    let nvml = node.nvml();
    let done = AtomicBool::new(false);
    let uuids: Vec<String> = node.machine.hardware().unwrap().gpus.into_iter().map(|gpu| gpu.uuid).collect();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut rounds = 0;
                    while !done.load(Ordering::Relaxed) || rounds == 0 {
                        for (index, uuid) in (0..).zip(&uuids) {
                            let device = nvml.device_by_uuid(uuid.as_str()).unwrap();
                            let minor = device.minor_number().unwrap();
                            assert!(minor == index || minor == 20, "{minor}");
                        }
                        rounds += 1;
                    }
                })
            })
            .collect();
        for round in 0..40 {
            node.run(if round % 2 == 0 { "set 5 minor=20" } else { "set 5 minor=5" });
        }
        done.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

#[test]
fn writers_do_not_lose_each_others_changes() {
    use nvml_wrapper::enum_wrappers::device::ComputeMode;

    let node = Node::new("dgx-h100");
    let nvml = node.nvml();
    std::thread::scope(|scope| {
        for index in 0..8 {
            let (node, nvml) = (&node, &nvml);
            scope.spawn(move || {
                let mut device = nvml.device_by_index(index).unwrap();
                device.set_compute_mode(ComputeMode::ExclusiveProcess).unwrap();
                node.run(&format!("event {index} xid=13"));
            });
        }
    });
    let hardware = node.machine.hardware().unwrap();
    assert!(hardware.gpus.iter().all(|gpu| gpu.compute_mode == simulated_hardware::ComputeMode::ExclusiveProcess));
    let sequences: Vec<u64> = hardware.events.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, (1..=8).collect::<Vec<_>>());
}

#[test]
fn waiters_of_one_set_share_its_events() {
    use nvml_wrapper_sys::bindings::{nvmlEventData_t, nvmlEventSet_t};

    let node = Node::new("dgx-h100");
    let nvml = node.nvml();
    let set = nvml.create_event_set().unwrap();
    let set = nvml
        .device_by_index(0)
        .unwrap()
        .register_events(nvml_wrapper::bitmasks::event::EventTypes::CRITICAL_XID_ERROR, set)
        .unwrap();
    // SAFETY: the set lives until the end of this test.
    let handle: usize = unsafe { set.handle() }.addr();
    let wait = *nvml.lib().nvmlEventSetWait_v2.as_ref().unwrap();
    let mut seen: Vec<u64> = std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(move || {
                    let set: nvmlEventSet_t = std::ptr::without_provenance_mut(handle);
                    let mut data = std::mem::MaybeUninit::<nvmlEventData_t>::uninit();
                    // SAFETY: the set is alive, and the struct is filled when the call succeeds.
                    unsafe {
                        assert_eq!(wait(set, data.as_mut_ptr(), 60_000), 0);
                        data.assume_init().eventData
                    }
                })
            })
            .collect();
        (1..=4).for_each(|xid| node.run(&format!("event 0 xid={xid}")));
        waiters.into_iter().map(|waiter| waiter.join().unwrap()).collect()
    });
    seen.sort_unstable();
    assert_eq!(seen, [1, 2, 3, 4]);
    assert!(matches!(set.wait(0), Err(NvmlError::Timeout)));
}
