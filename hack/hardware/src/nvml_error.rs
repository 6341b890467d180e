//! The errors that NVML knows, by name and number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A return code of NVML other than success (`NVML_ERROR_*` of nvml.h, written without that prefix).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NvmlError(&'static Row);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Row {
    code: u32,
    name: &'static str,
}

macro_rules! errors {
    ($($name:ident = $code:literal,)*) => {
        #[allow(missing_docs)]
        impl NvmlError {
            $(pub const $name: Self = Self(&Row { code: $code, name: stringify!($name) });)*

            /// Every error, by number.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

errors! {
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NO_PERMISSION = 4,
    ALREADY_INITIALIZED = 5,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    INSUFFICIENT_POWER = 8,
    DRIVER_NOT_LOADED = 9,
    TIMEOUT = 10,
    IRQ_ISSUE = 11,
    LIBRARY_NOT_FOUND = 12,
    FUNCTION_NOT_FOUND = 13,
    CORRUPTED_INFOROM = 14,
    GPU_IS_LOST = 15,
    RESET_REQUIRED = 16,
    OPERATING_SYSTEM = 17,
    LIB_RM_VERSION_MISMATCH = 18,
    IN_USE = 19,
    MEMORY = 20,
    NO_DATA = 21,
    VGPU_ECC_NOT_SUPPORTED = 22,
    INSUFFICIENT_RESOURCES = 23,
    FREQ_NOT_SUPPORTED = 24,
    ARGUMENT_VERSION_MISMATCH = 25,
    DEPRECATED = 26,
    NOT_READY = 27,
    GPU_NOT_FOUND = 28,
    INVALID_STATE = 29,
    RESET_TYPE_NOT_SUPPORTED = 30,
    UNKNOWN = 999,
}

impl NvmlError {
    /// The number that a call returns.
    pub fn code(self) -> u32 {
        self.0.code
    }

    /// The name without `NVML_ERROR_`.
    pub fn name(self) -> &'static str {
        self.0.name
    }
}

impl fmt::Display for NvmlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for NvmlError {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|error| error.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|error| error.name()).collect();
            format!("{text:?} is no NVML error; allowed: {}", names.join(", "))
        })
    }
}

impl TryFrom<String> for NvmlError {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<NvmlError> for String {
    fn from(error: NvmlError) -> Self {
        error.name().to_owned()
    }
}
