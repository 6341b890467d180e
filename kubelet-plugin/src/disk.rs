//! Carries out the steps of claims: records in the state directory, specs in the CDI directory.

use std::fs;
use std::io::{self, ErrorKind};

use tessera_core::{ClaimUid, Executor, Step};

use crate::store::{Store, StoreError};

/// The two directories that claims are written to.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) store: Store,
    pub(crate) specs: cdi::Directory,
}

/// A file that could not be written or removed. The texts land in events of pods.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error("the agent cannot keep its record: {0}; free space or mend the directory")]
    Record(#[from] StoreError),
    #[error("the agent cannot write for the container runtime: {0}; free space or mend the directory")]
    Spec(#[from] cdi::Error),
}

impl Disk {
    /// Removes what there may be of a claim that nothing is known of.
    pub(crate) fn remove_strays(&self, file: &cdi::FileName, uid: &ClaimUid) -> Result<(), DiskError> {
        self.remove_spec(file)?;
        Ok(self.store.remove(uid)?)
    }

    /// A directory that is read-only, or none any more, refuses even to remove what is not there.
    fn remove_spec(&self, file: &cdi::FileName) -> Result<(), DiskError> {
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
            Step::Keep(record) => Ok(self.store.write(record)?),
            Step::Describe { file, spec } => Ok(self.specs.write(file, spec)?),
        }
    }

    fn undo(&self, step: &Step) -> Result<(), DiskError> {
        match step {
            Step::Keep(record) => Ok(self.store.remove(&record.claim.uid)?),
            Step::Describe { file, .. } => self.remove_spec(file),
        }
    }

    fn holds(&self, step: &Step) -> bool {
        match step {
            Step::Keep(record) => self.store.contains(&record.claim.uid),
            Step::Describe { file, spec } => {
                self.specs.read(file).is_ok_and(|found| found.as_ref() == Some(spec.as_ref()))
            }
        }
    }
}
