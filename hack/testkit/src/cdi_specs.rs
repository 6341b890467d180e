//! Gathers the CDI specs that tests wrote, so that the oracles can judge them all afterwards.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, io, process};

/// The variable that names the directory to gather in; without it nothing is gathered.
const DIRECTORY: &str = "TESSERA_CDI_COLLECT";

/// Copies every `*.json` below `dir` to the directory that `TESSERA_CDI_COLLECT` names, each under a name of its own.
///
/// # Panics
/// If a file cannot be copied: specs that go missing would pass the oracles unseen.
#[expect(clippy::panic, reason = "for tests")]
pub fn collect(dir: &Path) {
    let Some(target) = env::var_os(DIRECTORY) else { return };
    let target = Path::new(&target);
    let copied = fs::create_dir_all(target).and_then(|()| copy_specs(dir, target));
    copied.unwrap_or_else(|error| panic!("collecting specs from {} to {}: {error}", dir.display(), target.display()));
}

fn copy_specs(from: &Path, to: &Path) -> io::Result<()> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if path.is_dir() {
            copy_specs(&path, to)?;
        } else if let Some(name) = path.file_name().filter(|_| path.extension() == Some(OsStr::new("json"))) {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            fs::copy(&path, to.join(format!("{}-{number}-{}", process::id(), name.to_string_lossy())))?;
        }
    }
    Ok(())
}
