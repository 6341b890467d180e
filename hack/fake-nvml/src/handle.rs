//! Device handles: numbers that look like pointers and are never followed.

use nvml_wrapper_sys::bindings::nvmlDevice_t;

/// Tells our handles from garbage. Above any address that a small mistake produces.
const TAG: usize = 0x6e76_0000_0000;

/// Handles lie apart, so that no arithmetic on one gives another.
const STEP: usize = 0x1000;

/// The handle of the GPU at a position in the machine's list. Positions never change, so a handle stays good for as long
/// as the machine exists.
pub(crate) fn of_gpu(position: usize) -> nvmlDevice_t {
    std::ptr::without_provenance_mut(TAG + position * STEP)
}

/// The position that a handle stands for. `None` for what is no handle; the position may still be beyond the list.
pub(crate) fn to_position(handle: nvmlDevice_t) -> Option<usize> {
    let offset = handle.addr().checked_sub(TAG)?;
    (offset % STEP == 0).then_some(offset / STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for position in [0, 1, 15] {
            assert_eq!(to_position(of_gpu(position)), Some(position));
        }
        for garbage in [0, 1, 0x7fff_0000_0001, TAG + 8, TAG - STEP] {
            assert_eq!(to_position(std::ptr::without_provenance_mut(garbage)), None, "{garbage:#x}");
        }
    }
}
