//! Where cargo has put the library of the simulated driver.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The file that `cargo build -p fake-nvml` makes.
const FILE: &str = "libfake_nvml.so";

/// Finds `libfake_nvml.so` in cargo's target directory, next to the running executable.
///
/// A test runs from `target/<profile>/deps`, a binary from `target/<profile>`. A build of the package puts the library
/// into the latter and a build as a dependency only into the former, so both are looked at and the newer one wins.
pub fn library() -> Result<PathBuf> {
    let executable = std::env::current_exe().map_err(Error::file("find", Path::new("the running executable")))?;
    let mut directory = executable.parent().unwrap_or(Path::new("/"));
    if directory.ends_with("deps") || directory.ends_with("examples") {
        directory = directory.parent().unwrap_or(directory);
    }
    newest([directory.join(FILE), directory.join("deps").join(FILE)])
        .ok_or_else(|| Error::LibraryNotBuilt { directory: directory.to_owned() })
}

fn newest(candidates: [PathBuf; 2]) -> Option<PathBuf> {
    let modified = |path: &PathBuf| path.metadata().and_then(|data| data.modified()).ok();
    candidates.into_iter().filter(|path| path.is_file()).max_by_key(modified)
}
