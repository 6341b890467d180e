//! The chart and the agent of an earlier revision, to be upgraded from and gone back to.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use images::{AGENT, Programs};

use super::Release;

/// The tag of an earlier agent's image: its version may be the same as today's.
const TAG: &str = "previous";

/// Where an earlier revision's source lies, with the image of its agent, for the tests that need one.
const VARIABLE: &str = "TESSERA_PREVIOUS";

/// An earlier revision: its source tree and, in it, its agent's image.
#[derive(Clone, Debug)]
pub struct Previous {
    source: PathBuf,
}

impl Previous {
    /// That whose source lies here. Its image may not be made yet.
    pub fn at(source: PathBuf) -> Self {
        Self { source }
    }

    /// The one that `cargo xtask test --previous` has built, if it has.
    pub fn given() -> Option<Self> {
        env::var_os(VARIABLE).map(|source| Self { source: source.into() })
    }

    /// How tests are told of it.
    pub fn variable(&self) -> (&'static str, &Path) {
        (VARIABLE, &self.source)
    }

    /// Whether its image was made.
    pub fn is_made(&self) -> bool {
        self.archive().is_file()
    }

    /// Makes its image of programs that were built from its source.
    ///
    /// # Errors
    /// As [`images::agent`].
    pub fn make(&self, programs: &Programs<'_>) -> Result<()> {
        let (mut image, _) = images::agent(&self.source, programs)?;
        image.name = format!("{AGENT}:{TAG}");
        // Named when it is whole: it says that all is there.
        let (archive, aside) = (self.archive(), self.archive().with_extension("new"));
        fs::write(&aside, image.archive()?.bytes).with_context(|| format!("writing {}", aside.display()))?;
        fs::rename(&aside, &archive).with_context(|| format!("naming {}", archive.display()))
    }

    fn archive(&self) -> PathBuf {
        self.source.join("tessera-agent-previous.tar")
    }
}

impl Release<'_> {
    /// Installs an earlier revision's chart with its agent, and with what that revision told its chart on simulated nodes.
    ///
    /// # Errors
    /// As [`Release::install`].
    pub fn install_previous(&self, previous: &Previous, settings: &[&str]) -> Result<()> {
        self.load(&previous.archive())?;
        let values = previous.source.join("hack/node/src/release/values.yaml");
        let values = fs::read_to_string(&values).with_context(|| format!("reading {}", values.display()))?;
        let tag = format!("agent.image.tag={TAG}");
        self.install_chart(&previous.source.join("deploy/chart"), &values, &[&[tag.as_str()], settings].concat())
    }
}
