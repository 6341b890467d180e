use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::{Context, Result};
use images::{Image, Programs};

use crate::programs::beside;

/// Makes the agent's image of the programs that were built beside the running one, if need be, and says where its archive
/// is. It is loaded into a node without a registry.
pub fn image() -> Result<PathBuf> {
    static MADE: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = &*made {
        return Ok(path.clone());
    }
    let path = make()?;
    *made = Some(path.clone());
    Ok(path)
}

/// The same of the controller, which is built for it if need be.
pub fn controller_image() -> Result<PathBuf> {
    static MADE: Mutex<Option<PathBuf>> = Mutex::new(None);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(path) = &*made {
        return Ok(path.clone());
    }
    let program = crate::controller()?;
    let archive = program.with_file_name("tessera-controller.tar");
    let path = unless_newer(archive, &[&program], || Ok(images::controller(&workspace(), &program)?.0))?;
    *made = Some(path.clone());
    Ok(path)
}

fn make() -> Result<PathBuf> {
    let (agent, hook) = (beside("tessera-agent", "tessera-agent")?, crate::hook()?);
    let archive = agent.with_file_name("tessera-agent.tar");
    let programs = Programs { agent: &agent, hook: &hook };
    unless_newer(archive, &[&agent, &hook], || Ok(images::agent(&workspace(), &programs)?.0))
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The archive, which is made if it is older than what it is made of.
fn unless_newer(archive: PathBuf, of: &[&Path], make: impl FnOnce() -> Result<Image>) -> Result<PathBuf> {
    let running = env::current_exe().context("the path of the running program")?;
    // The running program too: it has in it how images are made.
    let newest = of.iter().copied().chain([&*running]).filter_map(modified).max();
    if modified(&archive).is_some() && modified(&archive) > newest {
        return Ok(archive);
    }
    let bytes = make()?.archive()?.bytes;
    // Another test may be reading the one that is there.
    let aside = archive.with_extension(format!("{}.tar", std::process::id()));
    fs::write(&aside, bytes).with_context(|| format!("writing {}", aside.display()))?;
    fs::rename(&aside, &archive).with_context(|| format!("naming {}", archive.display()))?;
    Ok(archive)
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|data| data.modified()).ok()
}
