//! Profiles: machines described in data files.

mod builtin;
mod error;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;
use std::path::Path;

use crate::bus::{Function, Tpu};
use crate::error::{Error, Result};
use crate::hardware::{Bridge, Driver, Fabric, Gpu, Hardware, NumaNode, Switch};
use crate::model::Model;

pub use error::ProfileError;

/// A machine as its data file describes it, checked, with the GPUs in PCI order.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Its name: the file's name without the extension.
    pub name: String,
    /// What the firmware calls the machine, if it says anything.
    pub product: Option<String>,
    /// NVIDIA's driver that is loaded, or [`Driver::NONE`].
    pub driver: Driver,
    /// The host's NUMA nodes that have CPUs.
    pub numa_nodes: Vec<NumaNode>,
    /// The NVLink switches that GPUs are linked to.
    pub switches: Vec<Switch>,
    /// The NVLinks between two GPUs.
    pub bridges: Vec<Bridge>,
    /// The NVLink fabric that all GPUs belong to.
    pub fabric: Option<Fabric>,
    /// The models of the GPUs, by the name of their file.
    pub models: BTreeMap<String, Model>,
    /// The GPUs in PCI order, each with the minor number of its position.
    pub gpus: Vec<Gpu>,
    /// The TPU chips in PCI order.
    pub tpus: Vec<Tpu>,
    /// What else sits on the bus.
    pub functions: Vec<Function>,
    /// What an instance of Google's cloud is told of its TPUs.
    pub instance: BTreeMap<String, String>,
}

impl Profile {
    /// The names of the profiles that come with this crate.
    pub fn names() -> impl Iterator<Item = &'static str> {
        builtin::PROFILES.iter().map(|(name, _)| *name)
    }

    /// The names of those that have GPUs.
    pub fn names_with_gpus() -> impl Iterator<Item = &'static str> {
        Self::names().filter(|name| Self::named(name).is_ok_and(|profile| !profile.gpus.is_empty()))
    }

    /// The names of those that have TPUs.
    pub fn names_with_tpus() -> impl Iterator<Item = &'static str> {
        Self::names().filter(|name| Self::named(name).is_ok_and(|profile| !profile.tpus.is_empty()))
    }

    /// A profile that comes with this crate.
    pub fn named(name: &str) -> Result<Self> {
        let (name, text) = builtin::PROFILES.iter().find(|(known, _)| *known == name).ok_or_else(|| {
            let names: Vec<_> = Self::names().collect();
            ProfileError::unknown_profile(name, &names)
        })?;
        Ok(text::profile(name, &format!("{name}.toml"), text, &builtin::model)?)
    }

    /// A profile as a command line gives it: the path of a file if it has a `/` or ends in `.toml`, else a name.
    pub fn named_or_at(text: &str) -> Result<Self> {
        if text.contains('/') || text.ends_with(".toml") { Self::load(Path::new(text)) } else { Self::named(text) }
    }

    /// A profile from a file. Its models come from `models/` beside it, or else from those of this crate.
    pub fn load(path: &Path) -> Result<Self> {
        let content = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let beside = path.with_file_name("models");
        let model = |name: &str| {
            let path = beside.join(format!("{name}.toml"));
            match std::fs::read_to_string(&path) {
                Ok(content) => Some((path.display().to_string(), content)),
                Err(_) => builtin::model(name),
            }
        };
        Ok(text::profile(&name, &path.display().to_string(), &content, &model)?)
    }

    /// The machine in the state in which it boots.
    pub fn hardware(&self) -> Hardware {
        Hardware {
            profile: self.name.clone(),
            product: self.product.clone(),
            driver: self.driver.clone(),
            numa_nodes: self.numa_nodes.clone(),
            switches: self.switches.clone(),
            bridges: self.bridges.clone(),
            models: self.models.clone(),
            gpus: self.gpus.clone(),
            tpus: self.tpus.clone(),
            functions: self.functions.clone(),
            instance: self.instance.clone(),
            faults: Vec::new(),
            events: Vec::new(),
            last_event: 0,
            last_fault: 0,
            last_instance: 0,
            records_calls: false,
        }
    }
}
