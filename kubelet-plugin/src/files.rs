//! Files of a driver's directory: read or set aside, written whole or not at all, removed if they are there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What is being written.
pub(crate) const ASIDE: &str = "tmp";

/// A file that could not be written, read or removed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub(crate) struct FileError {
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    pub(crate) fn new(path: PathBuf, source: io::Error) -> Self {
        Self { path, source }
    }
}

/// What was found where a file should be.
pub(crate) enum Found<T> {
    Nothing,
    Whole {
        path: PathBuf,
        content: T,
    },
    /// It is not what it should be, and is kept under another name for a person to look at.
    Damaged {
        path: PathBuf,
        kept_as: PathBuf,
        reason: String,
    },
}

/// The files of a directory.
pub(crate) fn list(directory: &Path) -> Result<Vec<PathBuf>, FileError> {
    let failed = |source| FileError::new(directory.to_owned(), source);
    let entries = fs::read_dir(directory).map_err(failed)?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
}

/// Reads a file; one that is not what it should be gets another extension.
///
/// # Errors
/// When it cannot be read now: it may be whole all the same.
pub(crate) fn read<T, E: ToString>(
    path: PathBuf,
    set_aside: &str,
    decode: impl FnOnce(Vec<u8>) -> Result<T, E>,
) -> Result<Found<T>, FileError> {
    let decoded = match fs::read(&path) {
        Ok(bytes) => decode(bytes).map_err(|reason| reason.to_string()),
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(source) if source.kind() == io::ErrorKind::IsADirectory => Err("it is a directory".to_owned()),
        Err(source) => return Err(FileError { path, source }),
    };
    Ok(match decoded {
        Ok(content) => Found::Whole { path, content },
        Err(reason) => {
            let kept_as = path.with_extension(set_aside);
            let _ = fs::rename(&path, &kept_as);
            Found::Damaged { path, kept_as, reason }
        }
    })
}

/// Writes a file, whole or not at all.
pub(crate) fn write(path: PathBuf, bytes: &[u8]) -> Result<(), FileError> {
    let aside = path.with_extension(ASIDE);
    fs::write(&aside, bytes).and_then(|()| fs::rename(&aside, &path)).map_err(|source| {
        // Best effort: what is left of it is overwritten by the next try and swept at the next start.
        let _ = fs::remove_file(&aside);
        FileError { path, source }
    })
}

/// Writes what was encoded, if it could be.
pub(crate) fn write_encoded(path: PathBuf, encoded: serde_json::Result<Vec<u8>>) -> Result<(), FileError> {
    match encoded {
        Ok(bytes) => write(path, &bytes),
        Err(error) => Err(FileError { path, source: error.into() }),
    }
}

/// Removes a file. That there is none is fine, and so is a directory in its place.
pub(crate) fn remove(path: PathBuf) -> Result<(), FileError> {
    match fs::remove_file(&path) {
        Err(source) if !matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory) => {
            Err(FileError { path, source })
        }
        _ => Ok(()),
    }
}
