//! Handles: numbers that look like pointers and are never followed.

use nvml_wrapper_sys::bindings::{nvmlComputeInstance_t, nvmlDevice_t, nvmlGpuInstance_t};

/// Tells our handles from garbage. Above any address that a small mistake produces.
const TAG: usize = 0x6e76_0000_0000;

/// Handles lie apart, so that no arithmetic on one gives another.
const STEP: usize = 0x1000;

/// The handle of the GPU at a position in the machine's list. Positions never change, so a handle stays good for as
/// long as the machine exists.
pub(crate) fn of_gpu(position: usize) -> nvmlDevice_t {
    std::ptr::without_provenance_mut(TAG + position * STEP)
}

/// The position that a handle stands for. `None` for what is no handle; the position may still be beyond the list.
pub(crate) fn to_position(handle: nvmlDevice_t) -> Option<usize> {
    let offset = handle.addr().checked_sub(TAG)?;
    (offset % STEP == 0).then_some(offset / STEP)
}

/// Each kind of instance counts from a number of its own, so that one is never taken for another.
const MIG_DEVICE: usize = 0x6e77_0000_0000;
const GPU_INSTANCE: usize = 0x6e78_0000_0000;
const COMPUTE_INSTANCE: usize = 0x6e79_0000_0000;

/// The MIG device that a compute instance is. The handle stands for this one creation: nvml.h has handles of destroyed
/// instances "remain invalid".
pub(crate) fn of_mig_device(serial: u64) -> nvmlDevice_t {
    std::ptr::without_provenance_mut(MIG_DEVICE + serial as usize * STEP)
}

/// The serial number of the compute instance that a MIG device's handle stands for.
pub(crate) fn to_mig_device(handle: nvmlDevice_t) -> Option<u64> {
    serial(handle.addr(), MIG_DEVICE)
}

/// A GPU instance, one creation of it.
pub(crate) fn of_gpu_instance(serial: u64) -> nvmlGpuInstance_t {
    std::ptr::without_provenance_mut(GPU_INSTANCE + serial as usize * STEP)
}

/// The serial number that a GPU instance's handle stands for.
pub(crate) fn to_gpu_instance(handle: nvmlGpuInstance_t) -> Option<u64> {
    serial(handle.addr(), GPU_INSTANCE)
}

/// A compute instance, one creation of it.
pub(crate) fn of_compute_instance(serial: u64) -> nvmlComputeInstance_t {
    std::ptr::without_provenance_mut(COMPUTE_INSTANCE + serial as usize * STEP)
}

/// The serial number that a compute instance's handle stands for.
pub(crate) fn to_compute_instance(handle: nvmlComputeInstance_t) -> Option<u64> {
    serial(handle.addr(), COMPUTE_INSTANCE)
}

fn serial(address: usize, tag: usize) -> Option<u64> {
    let offset = address.checked_sub(tag)?;
    (offset % STEP == 0).then_some((offset / STEP) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for position in [0, 1, 15] {
            assert_eq!(to_position(of_gpu(position)), Some(position));
        }
        for number in [1, 2, 100_000] {
            assert_eq!(to_mig_device(of_mig_device(number)), Some(number));
            assert_eq!(to_gpu_instance(of_gpu_instance(number)), Some(number));
            assert_eq!(to_compute_instance(of_compute_instance(number)), Some(number));
        }
        for garbage in [0, 1, 0x7fff_0000_0001, TAG + 8, TAG - STEP] {
            assert_eq!(to_position(std::ptr::without_provenance_mut(garbage)), None, "{garbage:#x}");
        }
    }
}
