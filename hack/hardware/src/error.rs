//! What can go wrong with a simulated machine.

use std::io;
use std::path::{Path, PathBuf};

use crate::command::CommandError;
use crate::nvml_error::NvmlError;
use crate::profile::ProfileError;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with a simulated machine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was tried, as a verb: "read", "write", "lock".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The state file holds something else than a machine.
    #[error("{} does not hold the state of a simulated machine: {source}", path.display())]
    State {
        /// The state file.
        path: PathBuf,
        /// What the parser found.
        #[source]
        source: serde_json::Error,
    },
    /// The library of the simulated driver has not been built.
    #[error("libfake_nvml.so is not in {}: build it with `cargo build -p fake-nvml`", directory.display())]
    LibraryNotBuilt {
        /// Cargo's target directory for the running profile.
        directory: PathBuf,
    },
    /// A profile cannot be used.
    #[error(transparent)]
    Profile(#[from] Box<ProfileError>),
    /// A command cannot be carried out.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The simulated driver refuses.
    #[error("the driver answers {0}")]
    Refused(NvmlError),
}

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}
