use tessera_nvml::{CallError, OpenError};

use crate::DiscoveryError;

/// The library is there and unusable.
impl From<OpenError> for DiscoveryError {
    fn from(error: OpenError) -> Self {
        Self::Driver(Box::new(error))
    }
}

/// The library failed while it was asked.
impl From<CallError> for DiscoveryError {
    fn from(error: CallError) -> Self {
        Self::Driver(Box::new(error))
    }
}
