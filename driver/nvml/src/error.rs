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
#[error("{call}: {source}")]
pub struct CallError {
    /// The function as NVML names it.
    pub call: &'static str,
    /// What it answered.
    pub source: NvmlError,
}

impl CallError {
    pub(crate) fn of(call: &'static str) -> impl FnOnce(NvmlError) -> Self {
        move |source| Self { call, source }
    }

    /// Whether the driver says that the GPU is no longer reachable (off the bus, or in need of a reset).
    pub fn is_lost(&self) -> bool {
        matches!(self.source, NvmlError::GpuLost | NvmlError::ResetRequired)
    }
}

/// `None` where this GPU or this driver does not know the answer, which is no fault.
pub(crate) fn optional<T>(call: &'static str, result: Result<T, NvmlError>) -> Result<Option<T>, CallError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(NvmlError::NotSupported | NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound) => Ok(None),
        Err(source) => Err(CallError { call, source }),
    }
}
