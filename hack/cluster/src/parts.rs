//! The programs of a node, built from pinned Go modules on demand and kept in a cache.
//!
//! A part is built once: its directory in the cache is named by a hash of its inputs, is written aside and renamed
//! when complete, and a file lock keeps two processes from building the same thing.

mod build;
mod cache;
mod openapi;
mod recipe;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

pub(crate) use build::run as build_program;
pub(crate) use cache::Cache;
pub use openapi::openapi;

use crate::image;
use crate::version::KubernetesVersion;

/// What [`Parts::ensure`] is busy with. Reported at the start of each step and about once a second during it.
#[derive(Debug, Clone)]
pub struct Building {
    /// The part: `kubernetes`, `helm`, `containerd`, `etcd`, `runc`, `cni` or `test image`.
    pub part: &'static str,
    /// Which step this is, counted from 1.
    pub step: usize,
    /// How many steps there are. A step that finds its result in the cache takes no time and is not reported.
    pub of: usize,
    /// How long the build took on two cores with nothing cached; the Go build cache makes it much shorter.
    pub expected: Duration,
    /// The time since the step began.
    pub elapsed: Duration,
    /// Another process builds this part, and this one waits for it.
    pub waiting: bool,
}

/// Every program of a node and the test image, built and in the cache.
#[derive(Debug, Clone)]
pub struct Parts {
    version: KubernetesVersion,
    programs: Vec<(String, PathBuf)>,
    image: PathBuf,
}

impl Parts {
    /// Builds what the cache does not hold yet. Only the parts of `version` are built.
    ///
    /// The cache is `$TESSERA_CACHE`, else `$XDG_CACHE_HOME/tessera`, else `~/.cache/tessera`.
    pub fn ensure(version: KubernetesVersion, report: &mut dyn FnMut(&Building)) -> Result<Self> {
        let cache = Cache::open()?;
        let recipes = recipe::recipes(version)?;
        let of = recipes.len() + 1;
        let mut programs = Vec::new();
        for (index, recipe) in recipes.iter().enumerate() {
            let mut progress = Progress::new(recipe.name, index + 1, of, recipe.expected, report);
            let directory = cache
                .entry(&format!("{}-{}", recipe.name, recipe.key()?), &mut progress, |target, progress| {
                    build::go(recipe, target, progress)
                })
                .with_context(|| format!("building {}", recipe.name))?;
            for (_, program) in recipe.programs {
                programs.push(((*program).to_owned(), directory.join(program)));
            }
            for link in recipe.links {
                let target = recipe.programs.first().map_or(*link, |(_, program)| program);
                programs.push(((*link).to_owned(), directory.join(target)));
            }
        }
        let mut progress = Progress::new("test image", of, of, Duration::from_secs(10), report);
        let image = image::ensure(&cache, &mut progress).context("building the test image")?;
        Ok(Self { version, programs, image })
    }

    /// The version of Kubernetes among these parts.
    pub fn version(&self) -> KubernetesVersion {
        self.version
    }

    /// The program that is called `name`, if it is one of the parts.
    pub fn program(&self, name: &str) -> Option<&Path> {
        self.programs.iter().find(|(known, _)| known == name).map(|(_, path)| path.as_path())
    }

    /// Every name under which a program is called, and its file.
    pub(crate) fn programs(&self) -> &[(String, PathBuf)] {
        &self.programs
    }

    /// The test image ([`crate::IMAGE`]) as an OCI layout in a tar file.
    pub fn image(&self) -> &Path {
        &self.image
    }
}

/// Where things are kept that are built once: `$TESSERA_CACHE`, else `$XDG_CACHE_HOME/tessera`, else
/// `~/.cache/tessera`. Makes it where it is missing.
pub fn cache_directory() -> Result<std::path::PathBuf> {
    Ok(Cache::open()?.path().to_owned())
}

/// Turns moments of a build into reports.
pub(crate) struct Progress<'a> {
    report: &'a mut dyn FnMut(&Building),
    building: Building,
    started: Instant,
    reported: Option<Instant>,
}

impl<'a> Progress<'a> {
    fn new(
        part: &'static str,
        step: usize,
        of: usize,
        expected: Duration,
        report: &'a mut dyn FnMut(&Building),
    ) -> Self {
        let building = Building { part, step, of, expected, elapsed: Duration::ZERO, waiting: false };
        Self { report, building, started: Instant::now(), reported: None }
    }

    /// To be called often; reports about once a second.
    pub(crate) fn tick(&mut self, waiting: bool) {
        if self.reported.is_some_and(|last| last.elapsed() < Duration::from_secs(1)) && self.building.waiting == waiting
        {
            return;
        }
        self.reported = Some(Instant::now());
        self.building.waiting = waiting;
        self.building.elapsed = self.started.elapsed();
        (self.report)(&self.building);
    }
}

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
