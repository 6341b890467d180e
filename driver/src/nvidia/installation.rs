use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use cdi::ContainerEdits;
use tracing::info;

use super::driver_files::{self, NoDriverFiles};
use super::handing_out;
use super::remembered::Remembered;
use crate::Root;

/// How a container's dynamic loader comes to find the driver's libraries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoaderCache {
    /// They are mounted where the node has them, and our hook adds them to the container's loader cache and makes their
    /// links. Works for every program, also for those that run with raised privileges.
    Hook {
        /// The program `tessera-hook`, as the container runtime sees it.
        path: PathBuf,
    },
    /// No hook: they are mounted in `/usr/local/nvidia/lib64` under each of their names, and `LD_LIBRARY_PATH` says so.
    /// For runtimes that run no hooks of the host, or run them where they can do nothing: gVisor, Kata.
    ///
    /// What that costs: the image's own `LD_LIBRARY_PATH` is lost; programs with raised privileges, and those that are
    /// started with an environment of their own (`env -i`, `sudo`, cron), find no driver; and since the variable comes
    /// before everything else, the node's driver hides the libraries of the same names in the image, those for forward
    /// compatibility among them. There are two or three mounts a library instead of one.
    None,
}

/// NVIDIA's driver on this node, as containers get it.
///
/// What was found is remembered and used again as long as nothing has changed: the loaded version, every directory that
/// was searched and every file that was found are looked at each time, which costs up to a tenth of a millisecond. So a driver
/// that is installed, upgraded or removed later is seen, and no half of it is kept.
#[derive(Debug)]
pub(crate) struct Installation {
    driver_root: Root,
    loader_cache: LoaderCache,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    remembered: Option<Remembered<Found>>,
    /// What was last told about a driver that is not there.
    told: Option<NoDriverFiles>,
}

#[derive(Debug)]
struct Found {
    /// The version that is loaded.
    loaded: Option<String>,
    edits: ContainerEdits,
}

impl Installation {
    pub(crate) fn new(driver_root: Root, loader_cache: LoaderCache) -> Self {
        Self { driver_root, loader_cache, state: Mutex::default() }
    }

    pub(crate) fn driver_root(&self) -> &Root {
        &self.driver_root
    }

    /// Makes the next [`Installation::edits`] within a moment one that needs no look.
    pub(crate) fn look_ahead(&self, node: &Root) {
        let began = Instant::now();
        let mut state = self.look(node).1;
        if let Some(known) = &mut state.remembered {
            known.hold(began);
        }
    }

    /// What a container needs of the driver's files. Nothing, where the node has none: that is told once in the log, and
    /// containers get device nodes alone, as images that bring the libraries themselves want it.
    pub(crate) fn edits(&self, node: &Root) -> ContainerEdits {
        match self.look(node) {
            (Some(edits), _) => edits,
            (None, state) => state.remembered.as_ref().map(|known| known.found.edits.clone()).unwrap_or_default(),
        }
    }

    /// What was found by a search of now; else what is remembered is as it was.
    fn look(&self, node: &Root) -> (Option<ContainerEdits>, MutexGuard<'_, State>) {
        // Held during a search: whoever comes meanwhile wants its result.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.remembered.as_ref().is_some_and(Remembered::is_fresh) {
            return (None, state);
        }
        let loaded = driver_files::loaded(node);
        if state.remembered.as_ref().is_some_and(|known| known.found.loaded == loaded && known.holds()) {
            return (None, state);
        }
        let looked = SystemTime::now();
        let (found, stamps) = driver_files::find(node, &self.driver_root, loaded.as_deref());
        let edits = match found {
            Ok(files) => {
                info!(version = files.version, libraries = files.libraries.len(), "found the driver's files");
                state.told = None;
                handing_out::edits(&files, &self.loader_cache)
            }
            Err(problem) => {
                if state.told.as_ref() != Some(&problem) {
                    info!(%problem, "containers get device nodes and no files of the driver");
                }
                state.told = Some(problem);
                ContainerEdits::default()
            }
        };
        state.remembered = Remembered::new(Found { loaded, edits: edits.clone() }, stamps, looked);
        (Some(edits), state)
    }
}

#[cfg(test)]
mod tests;
