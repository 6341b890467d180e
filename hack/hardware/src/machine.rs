//! A simulated machine on disk.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::call_record::{Call, CallRecord};
use crate::command::Command;
use crate::error::{Error, Result};
use crate::hardware::Hardware;
use crate::profile::Profile;
use crate::render;
use crate::state_file::StateFile;

/// A simulated machine below a root directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    root: PathBuf,
    state: StateFile,
}

/// What the files in `dev/` are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceNodes {
    /// Character devices that open without side effects and that a container may not open unasked.
    Character,
    /// Empty files, where this process may not make device nodes.
    PlainFiles,
}

impl Machine {
    /// Renders a machine below `root`, which is made if need be. A machine that was there is replaced: this is its
    /// boot. `library` is the built `libfake_nvml.so` (see [`crate::library`]); it is copied.
    pub fn create(root: &Path, profile: &Profile, library: &Path) -> Result<Self> {
        fs::create_dir_all(root).map_err(Error::file("make", root))?;
        let machine = Self::at(root)?;
        let lock = machine.state.lock()?;
        let mut hardware = profile.hardware();
        // Processes that knew the machine before count by these numbers.
        if let Ok((_, before)) = machine.state.read() {
            (hardware.last_event, hardware.last_fault) = (before.last_event, before.last_fault);
            hardware.last_instance = before.last_instance;
        }
        render::render(&machine.root, &hardware, Some(library))?;
        lock.write(&hardware)?;
        Ok(machine)
    }

    /// A machine that [`Machine::create`] has rendered, maybe in another process.
    pub fn open(root: &Path) -> Result<Self> {
        let machine = Self::at(root)?;
        machine.state.read()?;
        Ok(machine)
    }

    /// The machine that a state file belongs to.
    pub fn of(state: StateFile) -> Self {
        Self { root: state.path().parent().unwrap_or(Path::new("/")).to_owned(), state }
    }

    fn at(root: &Path) -> Result<Self> {
        let root = root.canonicalize().map_err(Error::file("find", root))?;
        Ok(Self { state: StateFile::below(&root), root })
    }

    /// The directory that stands for `/`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The NVML of this machine, for those who load it by path.
    pub fn library(&self) -> PathBuf {
        self.root.join(render::LIBRARY_DIRECTORY).join("libnvidia-ml.so.1")
    }

    /// What the files in `dev/` turned out to be.
    pub fn device_nodes(&self) -> Result<DeviceNodes> {
        let node = render::some_node(&self.hardware()?).unwrap_or_else(|| "dev".to_owned());
        let path = self.root.join(node);
        let data = fs::metadata(&path).map_err(Error::file("look at", &path))?;
        Ok(if data.file_type().is_char_device() { DeviceNodes::Character } else { DeviceNodes::PlainFiles })
    }

    /// The state as it is now.
    pub fn hardware(&self) -> Result<Hardware> {
        self.state.read().map(|(_, hardware)| hardware)
    }

    /// Changes the state and brings the files in line with it, as one step towards other writers.
    ///
    /// The files come first, so that who is woken by the new state finds them as it says.
    pub fn update<R>(&self, change: impl FnOnce(&mut Hardware) -> R) -> Result<R> {
        self.try_update(|hardware| Ok(change(hardware)))
    }

    /// Like [`Machine::update`]; when `change` fails, nothing changes.
    pub fn try_update<R>(&self, change: impl FnOnce(&mut Hardware) -> Result<R>) -> Result<R> {
        let lock = self.state.lock()?;
        let (_, mut hardware) = self.state.read()?;
        let result = change(&mut hardware)?;
        render::render(&self.root, &hardware, None)?;
        lock.write(&hardware)?;
        Ok(result)
    }

    /// From now on the calls of NVML are kept, without those before, or are not kept any more.
    pub fn record_calls(&self, on: bool) -> Result<()> {
        if on {
            CallRecord::of(&self.state).clear()?;
        }
        self.update(|hardware| hardware.records_calls = on)
    }

    /// The calls of NVML that were kept.
    pub fn calls(&self) -> Result<Vec<Call>> {
        CallRecord::of(&self.state).read()
    }

    /// Carries out a command of [`crate::command`] and gives back what it has to say, which may be nothing.
    pub fn run(&self, words: &[impl AsRef<str>]) -> Result<String> {
        match Command::parse(words)? {
            Command::List => Ok(crate::command::Listing::of(&self.hardware()?).to_string()),
            Command::Record(on) => self.record_calls(on).map(|()| String::new()),
            Command::Calls => Ok(self.calls()?.iter().map(|call| format!("{call}\n")).collect()),
            Command::Change(change) => self.try_update(|hardware| Ok(change.apply(hardware)?)).map(|()| String::new()),
        }
    }
}
