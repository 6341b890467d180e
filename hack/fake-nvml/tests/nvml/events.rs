//! Waiting for events.

use std::time::{Duration, Instant};

use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::event::EventSet;
use nvml_wrapper::struct_wrappers::event::EventData;
use nvml_wrapper_sys::bindings as sys;

use crate::support::Node;

/// Long enough for a busy machine, and never waited for in full.
const LONG: u32 = 60_000;

fn listen<'nvml>(nvml: &'nvml Nvml, gpus: &[u32]) -> EventSet<'nvml> {
    gpus.iter().fold(nvml.create_event_set().unwrap(), |set, index| {
        let device = nvml.device_by_index(*index).unwrap();
        device.register_events(EventTypes::CRITICAL_XID_ERROR | EventTypes::DOUBLE_BIT_ECC_ERROR, set).unwrap()
    })
}

fn xid(event: &EventData<'_>) -> Option<u64> {
    match event.event_data {
        Some(XidError::Value(xid)) => Some(xid),
        _ => None,
    }
}

#[test]
fn an_xid_wakes_the_waiter() {
    let node = Node::new("dgx-h100");
    let nvml = node.nvml();
    let set = listen(&nvml, &[0, 1]);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            let event = set.wait(LONG).unwrap();
            (event.device.index().unwrap(), event.event_type, xid(&event))
        });
        std::thread::sleep(Duration::from_millis(50));
        node.run("event 1 xid=31");
        assert_eq!(waiting.join().unwrap(), (1, EventTypes::CRITICAL_XID_ERROR, Some(31)));
    });
}

#[test]
fn events_wait_in_order_for_who_registered_before() {
    let node = Node::new("dgx-h100");
    let nvml = node.nvml();
    node.run("event 0 xid=13");
    let set = listen(&nvml, &[0]);
    for command in ["event 0 xid=31", "event 1 xid=43", "event 0 double_bit_ecc=0", "event 0 xid=45"] {
        node.run(command);
    }
    let seen: Vec<_> = (0..3).map(|_| set.wait(LONG).map(|event| (event.event_type, xid(&event))).unwrap()).collect();
    assert_eq!(
        seen,
        [
            (EventTypes::CRITICAL_XID_ERROR, Some(31)),
            (EventTypes::DOUBLE_BIT_ECC_ERROR, None),
            (EventTypes::CRITICAL_XID_ERROR, Some(45)),
        ]
    );
    assert!(matches!(set.wait(0), Err(NvmlError::Timeout)));
}

#[test]
fn a_wait_ends_in_time() {
    let node = Node::new("mixed");
    let nvml = node.nvml();
    let set = listen(&nvml, &[0]);
    let start = Instant::now();
    assert!(matches!(set.wait(250), Err(NvmlError::Timeout)));
    assert!(start.elapsed() >= Duration::from_millis(250));
}

#[test]
fn a_gpu_that_falls_off_reports_first_and_is_lost_then() {
    let node = Node::new("dgx-h100");
    let nvml = node.nvml();
    let (set, other) = (listen(&nvml, &[2]), listen(&nvml, &[3]));
    node.run("event 2 xid=79");
    let event = set.wait(LONG).unwrap();
    assert_eq!(xid(&event), Some(79));
    assert!(matches!(event.device.uuid(), Err(NvmlError::GpuLost)));
    assert!(matches!(set.wait(LONG), Err(NvmlError::GpuLost)));
    assert!(matches!(other.wait(0), Err(NvmlError::Timeout)), "it is nothing to who listens to others");
}

#[test]
fn what_can_be_registered() {
    let node = Node::new("mixed");
    let nvml = node.nvml();
    let device = nvml.device_by_index(0).unwrap();
    let supported = device.supported_event_types().unwrap();
    assert!(supported.contains(EventTypes::CRITICAL_XID_ERROR | EventTypes::DOUBLE_BIT_ECC_ERROR));
    let refused = device.register_events(EventTypes::POWER_SOURCE_CHANGE, nvml.create_event_set().unwrap());
    assert!(matches!(refused.unwrap_err().error, NvmlError::NotSupported));
}

#[test]
fn instances_are_told_only_to_the_second_version() {
    let node = Node::new("dgx-h100");
    let nvml = node.nvml();
    let set = listen(&nvml, &[0]);
    node.run("event 0 xid=31 gi=2 ci=1");
    node.run("event 0 xid=31");
    node.run("event 0 xid=31 gi=2 ci=1");
    let untouched = sys::nvmlEventData_t {
        device: std::ptr::null_mut(),
        eventType: 0,
        eventData: 0,
        gpuInstanceId: 7,
        computeInstanceId: 7,
    };
    let second = *nvml.lib().nvmlEventSetWait_v2.as_ref().unwrap();
    // SAFETY: the set lives until the end of this test.
    let handle = unsafe { set.handle() };
    for expected in [(2, 1), (u32::MAX, u32::MAX)] {
        let mut data = untouched;
        // SAFETY: the set is alive, and the struct is the one that this version fills.
        assert_eq!(unsafe { second(handle, &mut data, LONG) }, 0);
        assert_eq!((data.gpuInstanceId, data.computeInstanceId), expected);
    }
    // SAFETY: the library is loaded for as long as the test runs, and the signature is that of nvml.h.
    let first = unsafe {
        let library = libloading::Library::new(node.library()).unwrap();
        let function: libloading::Symbol<
            '_,
            unsafe extern "C" fn(sys::nvmlEventSet_t, *mut sys::nvmlEventData_t, u32) -> u32,
        > = library.get(b"nvmlEventSetWait\0").unwrap();
        *function
    };
    let mut data = untouched;
    // SAFETY: the set is alive, and the struct is larger than the one that this version fills.
    assert_eq!(unsafe { first(handle, &mut data, LONG) }, 0);
    assert_eq!((data.eventData, data.gpuInstanceId, data.computeInstanceId), (31, 7, 7), "no room in its struct");
}
