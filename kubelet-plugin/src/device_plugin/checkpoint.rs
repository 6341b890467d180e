use std::io;
use std::path::{Path, PathBuf};

use tessera_device_plugin::Held;

/// The file in which the kubelet keeps what pods have.
const FILE: &str = "kubelet_internal_checkpoint";

/// The kubelet's checkpoint in its directory of device plugins.
pub(super) struct Checkpoint(PathBuf);

/// Why it could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {cause}", path.display())]
pub(super) struct Unreadable {
    path: PathBuf,
    cause: String,
}

impl Checkpoint {
    pub(super) fn new(directory: &Path) -> Self {
        Self(directory.join(FILE))
    }

    /// What pods have as the kubelet wrote last; nothing where it never wrote any.
    pub(super) fn read(&self) -> Result<Held, Unreadable> {
        let failed = |cause: String| Unreadable { path: self.0.clone(), cause };
        match std::fs::read(&self.0) {
            Ok(bytes) => Held::read_checkpoint(&bytes).map_err(|error| failed(error.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Held::default()),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}
