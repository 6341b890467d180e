//! The calls, with as little around them as the C interface allows. Each gives the answer and what it has filled.

use std::path::Path;
use std::ptr::null_mut;

use nvml_wrapper_sys::bindings as sys;
use sys::nvmlReturn_t;
use sys::{
    nvmlComputeInstance_t as ComputeInstance, nvmlComputeInstanceProfileInfo_t as ComputeProfile,
    nvmlDevice_t as Device, nvmlGpuInstance_t as GpuInstance, nvmlGpuInstanceProfileInfo_t as GpuProfile,
};

use crate::support::Node;

pub(super) const NOT_SUPPORTED: nvmlReturn_t = 3;
pub(super) const INVALID_ARGUMENT: nvmlReturn_t = 2;
pub(super) const NOT_FOUND: nvmlReturn_t = 6;
pub(super) const FUNCTION_NOT_FOUND: nvmlReturn_t = 13;
pub(super) const RESET_REQUIRED: nvmlReturn_t = 16;
pub(super) const IN_USE: nvmlReturn_t = 19;
pub(super) const INSUFFICIENT_RESOURCES: nvmlReturn_t = 23;
pub(super) const VERSION_MISMATCH: nvmlReturn_t = 25;

/// An answer, as an error if it is one.
pub(super) type Answer<T = ()> = Result<T, nvmlReturn_t>;

/// The library, initialised.
pub(super) struct Client {
    pub(super) library: sys::NvmlLib,
}

fn answer<T>(code: nvmlReturn_t, filled: T) -> Answer<T> {
    if code == 0 { Ok(filled) } else { Err(code) }
}

/// Calls whose last argument is the place for the answer.
macro_rules! filling {
    ($($name:ident($($argument:ident: $type:ty),*) -> $filled:ty, $function:ident;)*) => {
        impl Client {
            $(pub(super) fn $name(&self, $($argument: $type),*) -> Answer<$filled> {
                let mut filled: $filled = zeroed();
                // SAFETY: the place for the answer is there; handles are checked by the library, which follows none.
                answer(unsafe { self.library.$function($($argument,)* &mut filled) }, filled)
            })*
        }
    };
}

filling! {
    gpu(index: u32) -> Device, nvmlDeviceGetHandleByIndex_v2;
    set_mode(device: Device, mode: u32) -> nvmlReturn_t, nvmlDeviceSetMigMode;
    most(device: Device) -> u32, nvmlDeviceGetMaxMigDeviceCount;
    remaining(device: Device, profile: u32) -> u32, nvmlDeviceGetGpuInstanceRemainingCapacity;
    create(device: Device, profile: u32) -> GpuInstance, nvmlDeviceCreateGpuInstance;
    by_id(device: Device, id: u32) -> GpuInstance, nvmlDeviceGetGpuInstanceById;
    create_compute(parent: GpuInstance, profile: u32) -> ComputeInstance, nvmlGpuInstanceCreateComputeInstance;
    compute_by_id(parent: GpuInstance, id: u32) -> ComputeInstance, nvmlGpuInstanceGetComputeInstanceById;
    compute_remaining(parent: GpuInstance, profile: u32) -> u32, nvmlGpuInstanceGetComputeInstanceRemainingCapacity;
    mig_device(device: Device, index: u32) -> Device, nvmlDeviceGetMigDeviceHandleByIndex;
    parent(device: Device) -> Device, nvmlDeviceGetDeviceHandleFromMigDeviceHandle;
    is_mig(device: Device) -> u32, nvmlDeviceIsMigDeviceHandle;
    gpu_instance_id(device: Device) -> u32, nvmlDeviceGetGpuInstanceId;
    compute_instance_id(device: Device) -> u32, nvmlDeviceGetComputeInstanceId;
    minor(device: Device) -> u32, nvmlDeviceGetMinorNumber;
    memory(device: Device) -> sys::nvmlMemory_t, nvmlDeviceGetMemoryInfo;
    attributes(device: Device) -> sys::nvmlDeviceAttributes_t, nvmlDeviceGetAttributes_v2;
    profile(device: Device, index: u32) -> GpuProfile, nvmlDeviceGetGpuInstanceProfileInfo;
    info(instance: GpuInstance) -> sys::nvmlGpuInstanceInfo_t, nvmlGpuInstanceGetInfo;
    compute_profile(parent: GpuInstance, index: u32, engines: u32) -> ComputeProfile, nvmlGpuInstanceGetComputeInstanceProfileInfo;
    compute_info(instance: ComputeInstance) -> sys::nvmlComputeInstanceInfo_t, nvmlComputeInstanceGetInfo_v2;
}

/// An empty struct for a call to fill.
pub(super) fn zeroed<T: Copy>() -> T {
    // SAFETY: used for the structs of NVML alone, plain C types for which zeros are a value.
    unsafe { std::mem::zeroed() }
}

impl Client {
    pub(super) fn new(node: &Node) -> Self {
        Self::at(&node.library())
    }

    pub(super) fn at(path: &Path) -> Self {
        // SAFETY: loading runs no code of the library.
        let library = unsafe { sys::NvmlLib::new(path).unwrap() };
        // SAFETY: takes nothing.
        assert_eq!(unsafe { library.nvmlInit_v2() }, 0);
        Self { library }
    }

    pub(super) fn create_at(&self, device: Device, profile: u32, start: u32, size: u32) -> Answer<GpuInstance> {
        let (mut made, place) = (null_mut(), sys::nvmlGpuInstancePlacement_t { start, size });
        // SAFETY: the places for placement and answer are there.
        answer(
            unsafe { self.library.nvmlDeviceCreateGpuInstanceWithPlacement(device, profile, &place, &mut made) },
            made,
        )
    }

    pub(super) fn create_compute_at(
        &self,
        parent: GpuInstance,
        profile: u32,
        start: u32,
        size: u32,
    ) -> Answer<ComputeInstance> {
        let (mut made, place) = (null_mut(), sys::nvmlComputeInstancePlacement_t { start, size });
        // SAFETY: the places for placement and answer are there.
        answer(
            unsafe {
                self.library.nvmlGpuInstanceCreateComputeInstanceWithPlacement(parent, profile, &place, &mut made)
            },
            made,
        )
    }

    pub(super) fn destroy(&self, instance: GpuInstance) -> Answer {
        // SAFETY: handles are checked by the library, which follows none.
        answer(unsafe { self.library.nvmlGpuInstanceDestroy(instance) }, ())
    }

    pub(super) fn destroy_compute(&self, instance: ComputeInstance) -> Answer {
        // SAFETY: handles are checked by the library, which follows none.
        answer(unsafe { self.library.nvmlComputeInstanceDestroy(instance) }, ())
    }

    pub(super) fn mode(&self, device: Device) -> Answer<(u32, u32)> {
        let mut both = (7, 7);
        // SAFETY: the places for the answers are there.
        answer(unsafe { self.library.nvmlDeviceGetMigMode(device, &mut both.0, &mut both.1) }, both)
    }

    /// Starts and sizes, and whether counting alone gives as many.
    pub(super) fn placements(&self, device: Device, profile: u32) -> Answer<Vec<(u32, u32)>> {
        let (mut count, mut places) = (0, [sys::nvmlGpuInstancePlacement_t { start: 9, size: 9 }; 16]);
        // SAFETY: a null pointer asks for the count alone; then there is more room than any profile needs.
        unsafe {
            answer(
                self.library.nvmlDeviceGetGpuInstancePossiblePlacements_v2(device, profile, null_mut(), &mut count),
                (),
            )?;
            let counted = count;
            count = 0;
            answer(
                self.library.nvmlDeviceGetGpuInstancePossiblePlacements_v2(
                    device,
                    profile,
                    places.as_mut_ptr(),
                    &mut count,
                ),
                (),
            )?;
            assert_eq!(count, counted);
        }
        assert_eq!(places[count as usize].start, 9, "nothing was written behind the last");
        Ok(places[..count as usize].iter().map(|place| (place.start, place.size)).collect())
    }

    pub(super) fn instances(&self, device: Device, profile: u32) -> Answer<Vec<GpuInstance>> {
        // What the count holds before the call means nothing.
        let (mut count, mut found) = (0, [null_mut(); 16]);
        // SAFETY: there is more room than any profile needs.
        let code = unsafe { self.library.nvmlDeviceGetGpuInstances(device, profile, found.as_mut_ptr(), &mut count) };
        answer(code, found[..count as usize].to_vec())
    }

    pub(super) fn compute_instances(&self, parent: GpuInstance, profile: u32) -> Answer<Vec<ComputeInstance>> {
        let (mut count, mut found) = (0, [null_mut(); 16]);
        // SAFETY: there is more room than any profile needs.
        let code =
            unsafe { self.library.nvmlGpuInstanceGetComputeInstances(parent, profile, found.as_mut_ptr(), &mut count) };
        answer(code, found[..count as usize].to_vec())
    }

    pub(super) fn uuid(&self, device: Device) -> Answer<String> {
        let mut buffer = [0; 96];
        // SAFETY: the buffer is as long as the call is told.
        let code = unsafe { self.library.nvmlDeviceGetUUID(device, buffer.as_mut_ptr(), 96) };
        answer(code, text(&buffer))
    }

    pub(super) fn name(&self, device: Device) -> Answer<String> {
        let mut buffer = [0; 96];
        // SAFETY: the buffer is as long as the call is told.
        let code = unsafe { self.library.nvmlDeviceGetName(device, buffer.as_mut_ptr(), 96) };
        answer(code, text(&buffer))
    }

    pub(super) fn by_uuid(&self, uuid: &str) -> Answer<Device> {
        let (mut found, uuid) = (null_mut(), std::ffi::CString::new(uuid).unwrap());
        // SAFETY: the text ends with a zero, and the place for the answer is there.
        answer(unsafe { self.library.nvmlDeviceGetHandleByUUID(uuid.as_ptr(), &mut found) }, found)
    }
}

/// The text in a buffer, up to its zero.
pub(super) fn text(buffer: &[std::ffi::c_char]) -> String {
    buffer.iter().map(|byte| *byte as u8 as char).take_while(|byte| *byte != '\0').collect()
}
