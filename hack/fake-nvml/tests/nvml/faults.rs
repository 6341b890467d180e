//! Calls that fail or take long, as ordered.

use std::time::{Duration, Instant};

use nvml_wrapper::error::NvmlError;

use crate::support::Node;

#[test]
fn one_function_of_one_gpu() {
    let node = Node::new("dgx-h100");
    let nvml = node.nvml();
    node.run("set 0 fail=nvmlDeviceGetUUID:GPU_IS_LOST");
    let device = nvml.device_by_index(0).unwrap();
    assert!(matches!(device.uuid(), Err(NvmlError::GpuLost)));
    assert!(device.name().is_ok());
    assert!(nvml.device_by_index(1).unwrap().uuid().is_ok());
    node.run("set 0 fail=none");
    assert!(device.uuid().is_ok());
}

#[test]
fn all_functions_of_one_gpu() {
    let node = Node::new("dgx-h100");
    let nvml = node.nvml();
    let device = nvml.device_by_index(2).unwrap();
    node.run("set 2 fail=*:UNKNOWN");
    assert!(matches!(device.name(), Err(NvmlError::Unknown)));
    assert!(matches!(nvml.device_by_index(2), Err(NvmlError::Unknown)), "finding it is about it");
    assert_eq!(nvml.device_count().unwrap(), 8, "counting is not");
}

#[test]
fn from_the_second_call_on_for_two_calls() {
    let node = Node::new("mixed");
    let nvml = node.nvml();
    let device = nvml.device_by_index(0).unwrap();
    node.run("set 0 fail=nvmlDeviceGetName:TIMEOUT from=2 times=2");
    let answers: Vec<bool> = (0..5).map(|_| device.name().is_ok()).collect();
    assert_eq!(answers, [true, false, false, true, true]);
}

#[test]
fn initialisation_fails_until_it_works() {
    let node = Node::new("mixed");
    node.run("set fail=nvmlInit_v2:DRIVER_NOT_LOADED times=2");
    // Each attempt loads the library again, and a failed one unloads it.
    let answers: Vec<bool> = (0..4).map(|_| node.try_nvml().is_ok()).collect();
    assert_eq!(answers, [false, false, true, true]);
}

#[test]
fn any_error_by_name() {
    let node = Node::new("mixed");
    let nvml = node.nvml();
    let device = nvml.device_by_index(0).unwrap();
    let call = *nvml.lib().nvmlDeviceGetMultiGpuBoard.as_ref().unwrap();
    for error in simulated_hardware::NvmlError::ALL {
        node.run(&format!("set 0 fail=nvmlDeviceGetMultiGpuBoard:{error}"));
        let mut answer = 0;
        // SAFETY: the library is loaded, and the place for the answer is there.
        assert_eq!(unsafe { call(device.handle(), &mut answer) }, error.code(), "{error}");
        node.run("set fail=none");
    }
}

#[test]
fn latency_holds_up_only_the_call_it_is_for() {
    let node = Node::new("mixed");
    let nvml = node.nvml();
    let (slow, fast) = (nvml.device_by_index(0).unwrap(), nvml.device_by_index(1).unwrap());
    node.run("record on");
    node.run("set 0 latency_ms=600000");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || slow.name());
        while node.machine.calls().unwrap().is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        // The other GPU answers while the slow call sleeps, however long this thread has to wait for its turn.
        assert!(fast.name().is_ok());
        assert!(!waiting.is_finished());
        node.run("set 0 latency_ms=0");
        assert!(waiting.join().unwrap().is_ok(), "what is taken back is over");
    });
    assert!(node.machine.hardware().unwrap().faults.is_empty());
}

#[test]
fn latency_takes_its_time() {
    let node = Node::new("mixed");
    let nvml = node.nvml();
    let device = nvml.device_by_index(0).unwrap();
    node.run("set 0 latency_ms=150 times=1");
    let start = Instant::now();
    assert!(device.name().is_ok());
    assert!(start.elapsed() >= Duration::from_millis(150));
}
