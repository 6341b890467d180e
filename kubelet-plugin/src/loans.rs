//! What pods have without a claim, on disk: one file, beside the records of claims, in a directory that a reboot empties.

use std::path::Path;

use tessera_core::Loans;

use crate::files::{self, FileError, Found};
use crate::notices::Notice;

const FILE: &str = "loans";
/// Not that of a claim's record, whose name is a UID.
const SET_ASIDE: &str = "unreadable-loans";

/// Reads the loans of this boot; `None` where nothing is known of any.
///
/// # Errors
/// When the file cannot be read. One that can be read and is none of loans is no error.
pub(crate) fn load(directory: &Path, boot_id: &str) -> Result<(Option<Loans>, Option<Notice>), FileError> {
    Ok(match files::read(directory.join(FILE), SET_ASIDE, |bytes| Loans::decode(&bytes, boot_id))? {
        Found::Nothing => (None, None),
        Found::Whole { content, .. } => (content, None),
        Found::Damaged { path, kept_as, reason } => (None, Some(Notice::LoansSetAside { path, kept_as, reason })),
    })
}

/// Keeps them, whole or not at all.
pub(crate) fn write(directory: &Path, loans: &Loans, boot_id: &str) -> Result<(), FileError> {
    files::write_encoded(directory.join(FILE), loans.encode(boot_id))
}
