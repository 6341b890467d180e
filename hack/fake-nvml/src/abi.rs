//! The caller's memory: pointers of the C interface, checked as far as they can be.
//!
//! The pointer types are transparent, so an exported function takes them in its signature and C sees a plain pointer.

use std::ffi::{CStr, c_char, c_uint};

use simulated_hardware::NvmlError;

/// Result of a call.
pub(crate) type Result<T = (), E = NvmlError> = std::result::Result<T, E>;

/// A pointer through which a call answers.
#[repr(transparent)]
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// Gives the caller a value.
    pub(crate) fn set(&self, value: T) -> Result {
        if self.0.is_null() {
            return Err(NvmlError::INVALID_ARGUMENT);
        }
        // SAFETY: not null, and NVML's contract makes the caller pass a pointer to writable memory for one T. The memory
        // may not hold a valid T yet, so nothing is read or dropped.
        unsafe { self.0.write_unaligned(value) };
        Ok(())
    }

    /// Gives the caller several values, at most as many as the caller has said there is room for.
    pub(crate) fn set_all(&self, values: impl ExactSizeIterator<Item = T>, room: usize) -> Result {
        if values.len() > room {
            return Err(NvmlError::INSUFFICIENT_SIZE);
        }
        if self.0.is_null() && values.len() > 0 {
            return Err(NvmlError::INVALID_ARGUMENT);
        }
        for (position, value) in values.enumerate() {
            // SAFETY: position is below the number of elements that the caller has promised room for.
            unsafe { self.0.add(position).write_unaligned(value) };
        }
        Ok(())
    }

    /// Whether the caller passed nothing, which some calls allow.
    pub(crate) fn is_null(&self) -> bool {
        self.0.is_null()
    }
}

impl<T: Copy> Out<T> {
    /// What the caller has put there, for values that go both ways. Only for plain C types that the caller must fill.
    pub(crate) fn get(&self) -> Result<T> {
        if self.0.is_null() {
            return Err(NvmlError::INVALID_ARGUMENT);
        }
        // SAFETY: not null, and NVML's contract makes the caller pass a filled T.
        Ok(unsafe { self.0.read_unaligned() })
    }

    /// The element at a position below the count that the caller has given.
    pub(crate) fn element(&self, position: usize) -> Self {
        // SAFETY: the caller of this function stays below the count that the C caller has promised.
        Self(unsafe { self.0.add(position) })
    }
}

impl<T> Out<T> {
    /// The first field of a versioned struct: `size | version << 24`. Nothing else of it is known to be filled.
    pub(crate) fn version(&self) -> Result<c_uint> {
        if self.0.is_null() {
            return Err(NvmlError::INVALID_ARGUMENT);
        }
        // SAFETY: not null, and every versioned struct of NVML starts with a filled unsigned version.
        Ok(unsafe { self.0.cast::<c_uint>().read_unaligned() })
    }

    /// The same memory as another version of the struct. To be called only after [`Out::version`] has said so.
    pub(crate) fn cast<U>(&self) -> Out<U> {
        Out(self.0.cast())
    }

    /// Refuses structs of other versions than `number`.
    pub(crate) fn expect_version(&self, number: c_uint) -> Result<c_uint> {
        let version = self.version()?;
        if version == struct_version::<T>(number) { Ok(version) } else { Err(NvmlError::ARGUMENT_VERSION_MISMATCH) }
    }
}

/// What callers put into the version field of a struct: its size, and its version in the top byte (nvml.h).
pub(crate) const fn struct_version<T>(number: c_uint) -> c_uint {
    size_of::<T>() as c_uint | (number << 24)
}

/// A buffer for text of a length that the caller gives.
#[repr(transparent)]
pub(crate) struct TextOut(*mut c_char);

impl TextOut {
    /// Gives the caller a text with its terminating zero.
    pub(crate) fn set(&self, room: c_uint, text: &str) -> Result {
        if self.0.is_null() {
            return Err(NvmlError::INVALID_ARGUMENT);
        }
        if text.len() >= room as usize {
            return Err(NvmlError::INSUFFICIENT_SIZE);
        }
        let bytes = text.bytes().chain([0]);
        for (position, byte) in bytes.enumerate() {
            // SAFETY: position is at most the text's length, which is below the room that the caller has promised.
            unsafe { self.0.add(position).write(byte as c_char) };
        }
        Ok(())
    }
}

/// A text that the caller passes.
#[repr(transparent)]
pub(crate) struct TextIn(*const c_char);

impl TextIn {
    pub(crate) fn get(&self) -> Result<String> {
        if self.0.is_null() {
            return Err(NvmlError::INVALID_ARGUMENT);
        }
        // SAFETY: not null, and NVML's contract makes the caller pass a text with a terminating zero.
        let text = unsafe { CStr::from_ptr(self.0) };
        text.to_str().map(str::to_owned).map_err(|_| NvmlError::INVALID_ARGUMENT)
    }
}

/// A text in an array of a struct, cut to fit and filled up with zeros.
pub(crate) fn text_array<const N: usize>(text: &str) -> [c_char; N] {
    let mut array = [0; N];
    for (place, byte) in array.iter_mut().take(N - 1).zip(text.bytes()) {
        *place = byte as c_char;
    }
    array
}

#[cfg(test)]
mod tests {
    use nvml_wrapper_sys::bindings as sys;

    use super::*;

    #[test]
    fn a_text_needs_room_for_its_zero() {
        let mut buffer = [1 as c_char; 8];
        let out = TextOut(buffer.as_mut_ptr());
        assert_eq!(out.set(3, "abc"), Err(NvmlError::INSUFFICIENT_SIZE));
        assert_eq!(out.set(0, ""), Err(NvmlError::INSUFFICIENT_SIZE));
        assert_eq!(out.set(4, "abc"), Ok(()));
        assert_eq!(buffer.map(|byte| byte as u8), [b'a', b'b', b'c', 0, 1, 1, 1, 1]);
        assert_eq!(TextOut(std::ptr::null_mut()).set(8, "abc"), Err(NvmlError::INVALID_ARGUMENT));
    }

    #[test]
    fn null_is_refused() {
        assert_eq!(Out::<u32>(std::ptr::null_mut()).set(1), Err(NvmlError::INVALID_ARGUMENT));
        assert_eq!(Out::<u32>(std::ptr::null_mut()).get(), Err(NvmlError::INVALID_ARGUMENT));
        assert_eq!(TextIn(std::ptr::null()).get(), Err(NvmlError::INVALID_ARGUMENT));
    }

    #[test]
    fn a_list_stays_in_its_room() {
        let mut buffer = [0u32; 3];
        let out = Out(buffer.as_mut_ptr());
        assert_eq!(out.set_all([1, 2, 3].into_iter(), 2), Err(NvmlError::INSUFFICIENT_SIZE));
        assert_eq!(out.set_all([1, 2].into_iter(), 2), Ok(()));
        assert_eq!(buffer, [1, 2, 0]);
    }

    /// Sizes from nvml.h 13.0 on a 64-bit machine. A change of the bindings must not change what callers see.
    #[test]
    fn structs_have_the_size_of_the_header() {
        for (name, size, expected) in [
            ("nvmlPciInfo_t", size_of::<sys::nvmlPciInfo_t>(), 68),
            ("nvmlPciInfoExt_v1_t", size_of::<sys::nvmlPciInfoExt_v1_t>(), 64),
            ("nvmlMemory_t", size_of::<sys::nvmlMemory_t>(), 24),
            ("nvmlMemory_v2_t", size_of::<sys::nvmlMemory_v2_t>(), 40),
            ("nvmlBAR1Memory_t", size_of::<sys::nvmlBAR1Memory_t>(), 24),
            ("nvmlEventData_t", size_of::<sys::nvmlEventData_t>(), 32),
            ("nvmlFieldValue_t", size_of::<sys::nvmlFieldValue_t>(), 40),
            ("nvmlProcessInfo_t", size_of::<sys::nvmlProcessInfo_t>(), 24),
            ("nvmlGpuFabricInfo_t", size_of::<sys::nvmlGpuFabricInfo_t>(), 28),
            ("nvmlGpuFabricInfo_v2_t", size_of::<sys::nvmlGpuFabricInfo_v2_t>(), 36),
            ("nvmlGpuFabricInfo_v3_t", size_of::<sys::nvmlGpuFabricInfo_v3_t>(), 40),
            ("nvmlUUID_v1_t", size_of::<sys::nvmlUUID_v1_t>(), 52),
            ("nvmlDeviceAddressingMode_v1_t", size_of::<sys::nvmlDeviceAddressingMode_v1_t>(), 8),
            ("nvmlDeviceAttributes_t", size_of::<sys::nvmlDeviceAttributes_t>(), 40),
            ("nvmlGpuInstancePlacement_t", size_of::<sys::nvmlGpuInstancePlacement_t>(), 8),
            ("nvmlGpuInstanceProfileInfo_t", size_of::<sys::nvmlGpuInstanceProfileInfo_t>(), 48),
            ("nvmlGpuInstanceProfileInfo_v2_t", size_of::<sys::nvmlGpuInstanceProfileInfo_v2_t>(), 152),
            ("nvmlGpuInstanceProfileInfo_v3_t", size_of::<sys::nvmlGpuInstanceProfileInfo_v3_t>(), 152),
            ("nvmlGpuInstanceInfo_t", size_of::<sys::nvmlGpuInstanceInfo_t>(), 24),
            ("nvmlComputeInstanceProfileInfo_t", size_of::<sys::nvmlComputeInstanceProfileInfo_t>(), 36),
            ("nvmlComputeInstanceProfileInfo_v2_t", size_of::<sys::nvmlComputeInstanceProfileInfo_v2_t>(), 136),
            ("nvmlComputeInstanceProfileInfo_v3_t", size_of::<sys::nvmlComputeInstanceProfileInfo_v3_t>(), 140),
            ("nvmlComputeInstanceInfo_t", size_of::<sys::nvmlComputeInstanceInfo_t>(), 32),
        ] {
            assert_eq!(size, expected, "{name}");
        }
        assert_eq!(struct_version::<sys::nvmlMemory_v2_t>(2), 0x0200_0028);
    }
}
