//! A machine and this crate's way to it.

use simulated_hardware::{Hardware, Machine, Profile};
use tempfile::TempDir;
use tessera_nvml::Library;

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

    /// A machine whose first GPU can be cut at once.
    pub(crate) fn cut(profile: &str) -> Self {
        let node = Self::new(profile);
        node.run("mig 0 on");
        node.run("reset 0");
        node
    }

    pub(crate) fn library(&self) -> Library {
        Library::open(&self.machine.library()).unwrap()
    }

    pub(crate) fn hardware(&self) -> Hardware {
        self.machine.hardware().unwrap()
    }

    pub(crate) fn uuid(&self, gpu: usize) -> String {
        self.hardware().gpus[gpu].uuid.clone()
    }

    /// Carries out a command, words apart by blanks.
    pub(crate) fn run(&self, command: &str) {
        self.machine.run(&command.split(' ').collect::<Vec<_>>()).unwrap();
    }
}
