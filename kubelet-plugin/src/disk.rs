//! Carries out the steps of claims: records in the state directory, specs in the CDI directory.

use std::fs;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use tessera_core::{Executor, Step};

use crate::files::FileError;
use crate::ledger::SharedLedger;

/// The two directories that claims are written to.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) ledger: Arc<SharedLedger>,
    pub(crate) specs: cdi::Directory,
}

/// A file that could not be written or removed. The texts land in events of pods.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error("the agent cannot keep its record: {0}; free space or mend the directory")]
    Record(#[from] FileError),
    #[error("the agent cannot write for the container runtime: {0}; free space or mend the directory")]
    Spec(#[from] cdi::Error),
}

impl Disk {
    /// Removes a spec. That there is none is fine, also where a directory that is read-only, or none any more, refuses
    /// to remove what is not there.
    pub(crate) fn remove_spec(&self, file: &cdi::FileName) -> Result<(), DiskError> {
        let absent = |error: io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
        match self.specs.remove(file) {
            Ok(_) => Ok(()),
            Err(_) if fs::symlink_metadata(self.specs.path().join(file.as_str())).is_err_and(absent) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Executor for Disk {
    type Error = DiskError;

    fn apply(&self, step: &Step) -> Result<(), DiskError> {
        match step {
            Step::Describe { file, spec } => Ok(self.specs.write_document(file, spec)?),
        }
    }

    fn undo(&self, step: &Step) -> Result<(), DiskError> {
        match step {
            Step::Describe { file, .. } => self.remove_spec(file),
        }
    }

    fn holds(&self, step: &Step) -> bool {
        match step {
            Step::Describe { file, spec } => self.specs.holds(file, spec),
        }
    }
}
