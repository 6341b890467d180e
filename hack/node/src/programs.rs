use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// A program that was built beside the running one.
pub(crate) fn beside(name: &str, package: &str) -> Result<PathBuf> {
    let running = std::env::current_exe().context("the path of the running program")?;
    // Cargo puts test programs into a directory of their own.
    let mut directories = running.ancestors().skip(1).take(2);
    match directories.find_map(|directory| Some(directory.join(name)).filter(|path| path.is_file())) {
        Some(path) => Ok(path),
        None => bail!("no {name} beside {}; build it: cargo build -p {package}", running.display()),
    }
}
