//! Calls that fail, each in its place.

use tessera_nvml::{CallError, ErrorClass, MigGpu, MigProfileId, Placement};

use crate::support::Node;

const PROFILE: MigProfileId = MigProfileId(5);
const PLACE: Placement = Placement { start: 2, size: 2 };

/// Makes an instance, and destroys it.
fn round(mig: &MigGpu<'_>) -> Result<(), CallError> {
    let parent = mig.create_gpu_instance(PROFILE, PLACE)?;
    let own = mig.create_whole_compute_instance(parent.id)?;
    mig.destroy_compute_instance(parent.id, own.id)?;
    mig.destroy_gpu_instance(parent.id)
}

/// The calls that change something, in the order in which [`round`] makes them.
const WRITES: [&str; 4] = [
    "nvmlDeviceCreateGpuInstanceWithPlacement",
    "nvmlGpuInstanceCreateComputeInstance",
    "nvmlComputeInstanceDestroy",
    "nvmlGpuInstanceDestroy",
];

#[test]
fn each_answer_has_its_class() {
    let node = Node::cut("mixed");
    let library = node.library();
    let mig = library.mig_gpu(&node.uuid(0)).unwrap();
    for (answer, class, code) in [
        ("IN_USE", ErrorClass::Busy, 19),
        ("TIMEOUT", ErrorClass::Busy, 10),
        ("NOT_READY", ErrorClass::Busy, 27),
        ("INSUFFICIENT_RESOURCES", ErrorClass::Occupied, 23),
        ("NOT_FOUND", ErrorClass::Gone, 6),
        ("GPU_NOT_FOUND", ErrorClass::Gone, 28),
        ("GPU_IS_LOST", ErrorClass::Lost, 15),
        ("RESET_REQUIRED", ErrorClass::Lost, 16),
        ("NOT_SUPPORTED", ErrorClass::NotSupported, 3),
        ("FUNCTION_NOT_FOUND", ErrorClass::NotSupported, 13),
        ("INVALID_ARGUMENT", ErrorClass::Permanent, 2),
        ("NO_PERMISSION", ErrorClass::Permanent, 4),
        ("ARGUMENT_VERSION_MISMATCH", ErrorClass::Permanent, 25),
        ("UNKNOWN", ErrorClass::Permanent, 999),
    ] {
        node.run(&format!("set 0 fail={}:{answer} times=1", WRITES[0]));
        let error = mig.create_gpu_instance(PROFILE, PLACE).unwrap_err();
        assert_eq!((error.call, error.class(), error.code()), (WRITES[0], class, Some(code)), "{error}");
    }
}

#[test]
fn each_write_tells_its_call_and_its_device() {
    let node = Node::cut("mixed");
    let library = node.library();
    let mig = library.mig_gpu(&node.uuid(0)).unwrap();
    for call in WRITES {
        node.run(&format!("set 0 fail={call}:IN_USE times=1"));
        let error = round(&mig).unwrap_err();
        assert_eq!((error.call, error.class()), (call, ErrorClass::Busy), "{error}");
        assert_eq!(error.device.as_deref(), Some(mig.uuid()), "{error}");
        assert!(error.to_string().starts_with(&format!("{call} of GPU-")) && error.to_string().len() < 160, "{error}");
        for left in mig.gpu_instances().unwrap() {
            left.compute_instances.iter().for_each(|own| mig.destroy_compute_instance(left.id, own.id).unwrap());
            mig.destroy_gpu_instance(left.id).unwrap();
        }
        round(&mig).unwrap();
    }
    node.run("set 0 fail=nvmlDeviceSetMigMode:UNKNOWN");
    assert_eq!(mig.set_mode(false).unwrap_err().call, "nvmlDeviceSetMigMode");
}

#[test]
fn what_cannot_be_made_whole_is_undone() {
    let node = Node::cut("mixed");
    let library = node.library();
    let mig = library.mig_gpu(&node.uuid(0)).unwrap();
    node.run("set 0 fail=nvmlGpuInstanceGetInfo:UNKNOWN");
    let error = mig.create_gpu_instance(PROFILE, PLACE).unwrap_err();
    assert_eq!(error.call, "nvmlGpuInstanceGetInfo");
    assert!(node.hardware().gpus[0].mig.gpu_instances.is_empty());
    node.run("set 0 fail=none");

    let parent = mig.create_gpu_instance(PROFILE, PLACE).unwrap();
    for (call, answer) in [
        ("nvmlComputeInstanceGetInfo_v2", "UNKNOWN"),
        ("nvmlDeviceGetMigDeviceHandleByIndex", "NOT_FOUND"),
        ("nvmlDeviceGetGpuInstanceId", "UNKNOWN"),
    ] {
        node.run(&format!("set 0 fail={call}:{answer}"));
        let error = mig.create_whole_compute_instance(parent.id).unwrap_err();
        assert_eq!(error.call, call);
        node.run("set 0 fail=none");
        assert_eq!(mig.gpu_instance(parent.id).unwrap().compute_instances, [], "{call}");
    }
}

#[test]
fn a_function_that_an_old_driver_lacks_is_an_error_of_the_call() {
    let node = Node::cut("mixed");
    node.run("set driver.version=450.51");
    let library = node.library();
    let mig = library.mig_gpu(&node.uuid(0)).unwrap();
    let error = mig.create_gpu_instance(PROFILE, PLACE).unwrap_err();
    assert_eq!((error.call, error.class()), ("nvmlDeviceCreateGpuInstanceWithPlacement", ErrorClass::NotSupported));
    assert!(mig.mode().unwrap().unwrap().current, "others work");
}

#[test]
fn a_lost_gpu_is_lost_in_every_call() {
    let node = Node::cut("mixed");
    let library = node.library();
    let mig = library.mig_gpu(&node.uuid(0)).unwrap();
    node.run("set 0 lost=true");
    let errors = [
        mig.mode().unwrap_err(),
        mig.set_mode(false).unwrap_err(),
        mig.profiles().unwrap_err(),
        mig.gpu_instances().unwrap_err(),
        mig.devices().unwrap_err(),
        mig.processes().unwrap_err(),
        round(&mig).unwrap_err(),
    ];
    assert!(errors.iter().all(|error| error.class() == ErrorClass::Lost && error.is_lost()));
}

/// As when an agent joins a GPU again while it looks at all of them.
#[test]
fn a_mode_that_is_switched_off_meanwhile_is_no_error() {
    let node = Node::new("dgx-h100");
    node.run("mig 0 on");
    let library = node.library();
    let mig = library.mig_gpu(&node.uuid(0)).unwrap();
    node.run("record on");
    node.run("set 0 latency_ms=600000 function=nvmlDeviceGetGpuInstances times=1");
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| mig.gpu_instances());
        let asked = || node.machine.calls().unwrap().iter().any(|call| call.function == "nvmlDeviceGetGpuInstances");
        while !asked() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        node.run("mig 0 off");
        node.run("set 0 latency_ms=0");
        assert_eq!(looking.join().unwrap().unwrap(), []);
    });
    node.run("set fail=none");
    node.run("mig 0 on");
    node.run("set 0 fail=nvmlDeviceGetGpuInstances:NOT_SUPPORTED");
    assert_eq!(mig.gpu_instances().unwrap_err().class(), ErrorClass::NotSupported, "with the mode on it is one");
}
