//! Initialisation and shutdown.

use std::ffi::{CStr, c_char, c_uint};

use nvml_wrapper_sys::bindings::{NVML_INIT_FLAG_NO_GPUS, nvmlReturn_t};

use crate::{call, session};

#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> nvmlReturn_t {
    call::bare(|| session::enter("nvmlInit_v2", true))
}

/// `NO_ATTACH` changes nothing here: no GPU is ever attached.
#[unsafe(no_mangle)]
extern "C" fn nvmlInitWithFlags(flags: c_uint) -> nvmlReturn_t {
    call::bare(|| session::enter("nvmlInitWithFlags", flags & NVML_INIT_FLAG_NO_GPUS == 0))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> nvmlReturn_t {
    call::bare(|| {
        session::view()?;
        call::apply_faults("nvmlShutdown", None)?;
        session::leave()
    })
}

/// Works without initialisation, as the real one.
#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(result: nvmlReturn_t) -> *const c_char {
    error_text(result).as_ptr()
}

/// In words of our own; clients compare numbers.
fn error_text(result: nvmlReturn_t) -> &'static CStr {
    match result {
        0 => c"Success",
        1 => c"Uninitialized",
        2 => c"Invalid argument",
        3 => c"Not supported",
        4 => c"Insufficient permissions",
        5 => c"Already initialized",
        6 => c"Not found",
        7 => c"Insufficient size",
        8 => c"Insufficient external power",
        9 => c"Driver not loaded",
        10 => c"Timeout",
        11 => c"Interrupt request issue",
        12 => c"NVML shared library not found",
        13 => c"Function not found",
        14 => c"Corrupted infoROM",
        15 => c"GPU is lost",
        16 => c"GPU requires reset",
        17 => c"Blocked by the operating system",
        18 => c"Driver and library versions differ",
        19 => c"In use by another client",
        20 => c"Insufficient memory",
        21 => c"No data",
        22 => c"ECC not available with vGPU",
        23 => c"Insufficient resources",
        24 => c"Frequency not supported",
        25 => c"Argument version mismatch",
        26 => c"Deprecated",
        27 => c"Not ready",
        28 => c"GPU not found",
        29 => c"Invalid state",
        30 => c"Reset type not supported",
        _ => c"Unknown error",
    }
}

#[cfg(test)]
mod tests {
    use simulated_hardware::NvmlError;

    use super::*;

    #[test]
    fn every_error_has_a_text() {
        for error in NvmlError::ALL.iter().filter(|error| **error != NvmlError::UNKNOWN) {
            assert_ne!(error_text(error.code()), c"Unknown error", "{error}");
        }
        assert_eq!(error_text(31), c"Unknown error");
    }
}
