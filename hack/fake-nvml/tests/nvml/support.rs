//! A machine and a client on it.

use std::path::PathBuf;

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use simulated_hardware::{Machine, Profile};
use tempfile::TempDir;

/// A machine that goes away with the test.
pub(crate) struct Node {
    pub(crate) machine: Machine,
    _directory: TempDir,
}

impl Node {
    pub(crate) fn new(profile: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let library = simulated_hardware::library().unwrap();
        let machine = Machine::create(directory.path(), &Profile::named(profile).unwrap(), &library).unwrap();
        Self { machine, _directory: directory }
    }

    pub(crate) fn library(&self) -> PathBuf {
        self.machine.library()
    }

    /// Initialises as most clients do.
    pub(crate) fn try_nvml(&self) -> Result<Nvml, NvmlError> {
        Nvml::builder().lib_path(self.library().as_os_str()).init()
    }

    pub(crate) fn nvml(&self) -> Nvml {
        self.try_nvml().unwrap()
    }

    /// A machine whose first GPU is ready to be cut.
    pub(crate) fn cut(profile: &str) -> Self {
        let node = Self::new(profile);
        node.run("mig 0 on");
        node.run("reset 0");
        node
    }

    /// Carries out a command, words apart by blanks.
    pub(crate) fn run(&self, command: &str) {
        self.machine.run(&command.split(' ').collect::<Vec<_>>()).unwrap();
    }
}
