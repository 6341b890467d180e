use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use cdi::ContainerEdits;
use tracing::info;

use super::driver_files::{self, NoDriverFiles, Stamps};
use super::handing_out;
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

/// How long what was looked at counts as it was: while a claim is read from the API server.
const MOMENT: Duration = Duration::from_millis(10);

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
    remembered: Option<Remembered>,
    /// What was last told about a driver that is not there.
    told: Option<NoDriverFiles>,
}

#[derive(Debug)]
struct Remembered {
    loaded: Option<String>,
    stamps: Stamps,
    edits: ContainerEdits,
    /// When somebody last looked ahead and found all of it so.
    held: Option<Instant>,
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
        self.look(node, |known| {
            // Of one that was looked at a moment ago that moment counts.
            known.held = known.held.filter(|held| held.elapsed() < MOMENT).or(Some(began));
        });
    }

    /// What a container needs of the driver's files. Nothing, where the node has none: that is told once in the log, and
    /// containers get device nodes alone, as images that bring the libraries themselves want it.
    pub(crate) fn edits(&self, node: &Root) -> ContainerEdits {
        self.look(node, |known| known.edits.clone())
    }

    fn look<T>(&self, node: &Root, take: impl FnOnce(&mut Remembered) -> T) -> T {
        // Held during a search: whoever comes meanwhile wants its result.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &mut state.remembered
            && known.held.is_some_and(|held| held.elapsed() < MOMENT)
        {
            return take(known);
        }
        let loaded = driver_files::loaded(node);
        if let Some(known) = &mut state.remembered
            && known.loaded == loaded
            && known.stamps.hold()
        {
            return take(known);
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
        // While things change, what was read may be half of a change and its end not show.
        let settled = stamps.settled(looked);
        let mut found = Remembered { loaded, stamps, edits, held: None };
        let taken = take(&mut found);
        state.remembered = settled.then_some(found);
        taken
    }
}

#[cfg(test)]
mod tests;
