use std::path::PathBuf;

use nvml_wrapper::error::NvmlError;

/// Why the library could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file is there but the dynamic loader refuses it: another architecture, a damaged file, a missing dependency.
    #[error("{} cannot be loaded: {reason}; it must be a {} shared library", path.display(), std::env::consts::ARCH)]
    Load {
        /// The library's path.
        path: PathBuf,
        /// What the dynamic loader said.
        reason: String,
    },
    /// The library is there but cannot be initialised: no kernel module, another version of it, no permission.
    #[error("{} cannot be initialised: {source}{}", path.display(), hint(source))]
    Init {
        /// The library's path.
        path: PathBuf,
        /// What NVML said.
        source: NvmlError,
    },
}

fn hint(source: &NvmlError) -> &'static str {
    match source {
        NvmlError::DriverNotLoaded => "; load the kernel module nvidia",
        NvmlError::LibRmVersionMismatch => "; library and kernel module differ: reload the module or reboot the node",
        NvmlError::NoPermission => "; the agent needs access to /dev/nvidiactl",
        _ => "",
    }
}

/// A call to NVML that failed.
#[derive(Debug, thiserror::Error)]
#[error("{call}{}: {}", on(device), reason(source))]
pub struct CallError {
    /// The function as NVML names it.
    pub call: &'static str,
    /// The UUID of the GPU or MIG device that it was about, where the call was about one that is known by it.
    pub device: Option<String>,
    /// What it answered.
    pub source: NvmlError,
}

/// What can be done about a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// Somebody uses what the call is about. To be repeated later.
    Busy,
    /// The place, or an engine, is taken by another instance. To be repeated when that is destroyed, or elsewhere.
    Occupied,
    /// What the call is about is no longer there. For who wants to destroy it that is a success.
    Gone,
    /// The GPU cannot be reached: it is off the bus, or has to be reset.
    Lost,
    /// This GPU cannot do it, or not in the mode it is in, or this driver lacks the function.
    NotSupported,
    /// It will fail again.
    Permanent,
}

impl CallError {
    pub(crate) fn of(call: &'static str) -> impl FnOnce(NvmlError) -> Self {
        move |source| Self { call, device: None, source }
    }

    pub(crate) fn about(call: &'static str, device: &str) -> impl FnOnce(NvmlError) -> Self {
        move |source| Self { call, device: Some(device.to_owned()), source }
    }

    /// The same, about this device.
    pub(crate) fn on(self, device: &str) -> Self {
        Self { device: Some(device.to_owned()), ..self }
    }

    /// Whether the driver says that the GPU is no longer reachable (off the bus, or in need of a reset).
    pub fn is_lost(&self) -> bool {
        self.class() == ErrorClass::Lost
    }

    /// What can be done about it.
    pub fn class(&self) -> ErrorClass {
        match &self.source {
            NvmlError::InUse | NvmlError::Timeout => ErrorClass::Busy,
            NvmlError::UnexpectedVariant(NOT_READY) => ErrorClass::Busy,
            NvmlError::UnexpectedVariant(INSUFFICIENT_RESOURCES) => ErrorClass::Occupied,
            NvmlError::NotFound | NvmlError::UnexpectedVariant(GPU_NOT_FOUND) => ErrorClass::Gone,
            // NVML has no other word for the handle of an instance that was destroyed.
            NvmlError::InvalidArg if TAKE_A_HANDLE_ONLY.contains(&self.call) => ErrorClass::Gone,
            NvmlError::GpuLost | NvmlError::ResetRequired => ErrorClass::Lost,
            NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound => {
                ErrorClass::NotSupported
            }
            _ => ErrorClass::Permanent,
        }
    }

    /// NVML's number for the answer (`NVML_ERROR_*`); `None` where the failure is not NVML's own, such as a symbol that
    /// the library lacks.
    pub fn code(&self) -> Option<u32> {
        Some(match &self.source {
            NvmlError::Uninitialized => 1,
            NvmlError::InvalidArg => 2,
            NvmlError::NotSupported => 3,
            NvmlError::NoPermission => 4,
            NvmlError::NotFound => 6,
            NvmlError::InsufficientSize(_) => 7,
            NvmlError::InsufficientPower => 8,
            NvmlError::DriverNotLoaded => 9,
            NvmlError::Timeout => 10,
            NvmlError::IrqIssue => 11,
            NvmlError::LibraryNotFound => 12,
            NvmlError::FunctionNotFound => 13,
            NvmlError::CorruptedInfoROM => 14,
            NvmlError::GpuLost => 15,
            NvmlError::ResetRequired => 16,
            NvmlError::OperatingSystem => 17,
            NvmlError::LibRmVersionMismatch => 18,
            NvmlError::InUse => 19,
            NvmlError::InsufficientMemory => 20,
            NvmlError::NoData => 21,
            NvmlError::VgpuEccNotSupported => 22,
            NvmlError::Unknown => 999,
            NvmlError::UnexpectedVariant(code) => *code,
            _ => return None,
        })
    }
}

/// Answers that nvml-wrapper 0.13 has no word for.
const INSUFFICIENT_RESOURCES: u32 = 23;
const NOT_READY: u32 = 27;
const GPU_NOT_FOUND: u32 = 28;

/// Calls whose only argument that can be wrong is the handle of an instance or a MIG device.
const TAKE_A_HANDLE_ONLY: [&str; 9] = [
    "nvmlComputeInstanceDestroy",
    "nvmlComputeInstanceGetInfo_v2",
    "nvmlDeviceGetComputeInstanceId",
    "nvmlDeviceGetDeviceHandleFromMigDeviceHandle",
    "nvmlDeviceGetGpuInstanceId",
    "nvmlDeviceGetUUID",
    "nvmlGpuInstanceDestroy",
    "nvmlGpuInstanceGetComputeInstanceProfileInfo",
    "nvmlGpuInstanceGetInfo",
];

fn on(device: &Option<String>) -> String {
    device.as_ref().map_or_else(String::new, |device| format!(" of {device}"))
}

/// NVML's answer in words, also where nvml-wrapper has only the number.
fn reason(source: &NvmlError) -> String {
    let NvmlError::UnexpectedVariant(code) = source else { return source.to_string() };
    match *code {
        INSUFFICIENT_RESOURCES => "insufficient resources".to_owned(),
        25 => "the library does not know this version of a struct".to_owned(),
        NOT_READY => "not ready".to_owned(),
        GPU_NOT_FOUND => "no such GPU".to_owned(),
        29 => "invalid state".to_owned(),
        code => format!("NVML answered {code}, which this version does not know"),
    }
}

/// `None` where this GPU or this driver does not know the answer, which is no fault.
pub(crate) fn optional<T>(call: &'static str, result: Result<T, NvmlError>) -> Result<Option<T>, CallError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound) => Ok(None),
        Err(source) => Err(CallError::of(call)(source)),
    }
}
