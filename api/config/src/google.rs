//! The kind of Google's own driver, `tpu.resource.google.com/v1alpha1`, so that claims and classes written for it work
//! here.

mod logging;

pub use logging::{LogLevel, LoggingConfig};

pub(crate) use logging::Settings as LoggingSettings;

use crate::Problem;
use crate::device::Variable;
use crate::kinds::{API_VERSION as VERSION_FIELD, KIND, Kind, Said};
use crate::object::Object;

pub(crate) const API_VERSION: &str = "tpu.resource.google.com/v1alpha1";

pub(crate) const KINDS: &[Kind] = &[("TpuConfig", tpu)];

/// What holds for TPU chips.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TpuConfig {
    /// What libtpu writes to its logs.
    pub logging: LoggingConfig,
}

impl TpuConfig {
    pub(crate) fn environment(&self) -> Vec<Variable> {
        self.logging.environment()
    }
}

fn tpu(object: &Object<'_>) -> Result<Said, Problem> {
    object.only(&[VERSION_FIELD, KIND, logging::FIELD])?;
    logging::settings(object).map(Said::Tpu)
}
