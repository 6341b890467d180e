//! Buffers too short, versions unknown, pointers missing, calls out of turn.

use std::ffi::c_char;
use std::ptr::null_mut;

use nvml_wrapper_sys::bindings::{NvmlLib, nvmlDevice_t, nvmlMemory_t, nvmlMemory_v2_t, nvmlReturn_t};

use crate::support::Node;

const UNINITIALIZED: nvmlReturn_t = 1;
const INVALID_ARGUMENT: nvmlReturn_t = 2;
const INSUFFICIENT_SIZE: nvmlReturn_t = 7;
const VERSION_MISMATCH: nvmlReturn_t = 25;

/// The raw library, not initialised.
fn raw(node: &Node) -> NvmlLib {
    // SAFETY: loading runs no code of the library.
    unsafe { NvmlLib::new(node.library()).unwrap() }
}

fn first_gpu(library: &NvmlLib) -> nvmlDevice_t {
    let mut device = null_mut();
    // SAFETY: the place for the handle is there.
    assert_eq!(unsafe { library.nvmlDeviceGetHandleByIndex_v2(0, &mut device) }, 0);
    device
}

#[test]
fn texts_need_their_room() {
    let node = Node::new("dgx-h100");
    let library = raw(&node);
    let uuid = node.machine.hardware().unwrap().gpus[0].uuid.clone();
    let mut buffer = [0 as c_char; 96];
    // SAFETY: every buffer is at least as long as the call is told.
    unsafe {
        assert_eq!(library.nvmlInit_v2(), 0);
        let device = first_gpu(&library);
        assert_eq!(library.nvmlDeviceGetUUID(device, buffer.as_mut_ptr(), uuid.len() as u32), INSUFFICIENT_SIZE);
        assert_eq!(buffer[0], 0, "nothing was written");
        assert_eq!(library.nvmlDeviceGetUUID(device, buffer.as_mut_ptr(), uuid.len() as u32 + 1), 0);
        assert_eq!(library.nvmlDeviceGetName(device, buffer.as_mut_ptr(), 5), INSUFFICIENT_SIZE);
        assert_eq!(library.nvmlDeviceGetSerial(device, buffer.as_mut_ptr(), 0), INSUFFICIENT_SIZE);
        assert_eq!(library.nvmlSystemGetDriverVersion(buffer.as_mut_ptr(), 3), INSUFFICIENT_SIZE);
        assert_eq!(library.nvmlSystemGetNVMLVersion(null_mut(), 80), INVALID_ARGUMENT);
    }
}

#[test]
fn handles_and_pointers_are_checked() {
    let node = Node::new("dgx-h100");
    let library = raw(&node);
    let mut count = 0;
    // SAFETY: null pointers and handles that are none are what is tried here; the library follows neither.
    unsafe {
        assert_eq!(library.nvmlInit_v2(), 0);
        for handle in [null_mut(), std::ptr::without_provenance_mut(8)] {
            assert_eq!(library.nvmlDeviceGetMinorNumber(handle, &mut count), INVALID_ARGUMENT);
        }
        let beyond = std::ptr::without_provenance_mut(first_gpu(&library).addr() + 8 * 0x1000);
        assert_eq!(library.nvmlDeviceGetMinorNumber(beyond, &mut count), INVALID_ARGUMENT);
        assert_eq!(library.nvmlDeviceGetCount_v2(null_mut()), INVALID_ARGUMENT);
        assert_eq!(library.nvmlDeviceGetHandleByUUID(std::ptr::null(), &mut null_mut()), INVALID_ARGUMENT);
        assert_eq!(library.nvmlEventSetFree(null_mut()), INVALID_ARGUMENT);
    }
}

#[test]
fn structs_must_say_their_version() {
    let node = Node::new("dgx-h100");
    let library = raw(&node);
    let mut memory = nvmlMemory_v2_t { version: 0, total: 0, reserved: 0, free: 0, used: 0 };
    // SAFETY: the struct is the one that the call fills.
    unsafe {
        assert_eq!(library.nvmlInit_v2(), 0);
        let device = first_gpu(&library);
        for wrong in [0, 2, 0x0100_0028, 0x0200_0020] {
            memory.version = wrong;
            assert_eq!(library.nvmlDeviceGetMemoryInfo_v2(device, &mut memory), VERSION_MISMATCH, "{wrong:#x}");
        }
        memory.version = 0x0200_0028;
        assert_eq!(library.nvmlDeviceGetMemoryInfo_v2(device, &mut memory), 0);
    }
    let mut first = nvmlMemory_t { total: 0, free: 0, used: 0 };
    // SAFETY: the struct is the one that the call fills.
    assert_eq!(unsafe { library.nvmlDeviceGetMemoryInfo(first_gpu(&library), &mut first) }, 0);
    assert_eq!((first.total, first.used), (memory.total, memory.reserved), "the first version counts reserved as used");
    // 81,559 MiB, as nvidia-smi prints it for this part.
    assert_eq!((memory.total, memory.used), (85_520_809_984, 0));
    assert_eq!(memory.free + memory.reserved, memory.total);
}

#[test]
fn initialisations_are_counted() {
    let node = Node::new("mixed");
    let library = raw(&node);
    let mut count = 0;
    // SAFETY: the place for the count is there.
    unsafe {
        assert_eq!(library.nvmlDeviceGetCount_v2(&mut count), UNINITIALIZED);
        assert_eq!(library.nvmlShutdown(), UNINITIALIZED);
        assert_eq!((library.nvmlInit_v2(), library.nvmlInitWithFlags(0)), (0, 0));
        assert_eq!(library.nvmlShutdown(), 0);
        assert_eq!(library.nvmlDeviceGetCount_v2(&mut count), 0);
        assert_eq!(library.nvmlShutdown(), 0);
        assert_eq!(library.nvmlDeviceGetCount_v2(&mut count), UNINITIALIZED);
        assert_eq!(library.nvmlShutdown(), UNINITIALIZED);
        let text = std::ffi::CStr::from_ptr(library.nvmlErrorString(UNINITIALIZED));
        assert_eq!(text, c"Uninitialized");
    }
    assert_eq!(count, 3);
}

#[test]
fn every_listed_function_is_exported() {
    let node = Node::new("mixed");
    // SAFETY: loading runs no code of the library, and the symbols are only looked for.
    unsafe {
        let library = libloading::Library::new(node.library()).unwrap();
        for name in simulated_hardware::FUNCTIONS {
            assert!(library.get::<unsafe extern "C" fn()>(name.as_bytes()).is_ok(), "{name}");
        }
    }
}
