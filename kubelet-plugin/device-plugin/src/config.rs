//! NVIDIA's config file `version: v1`, as its device plugin reads it: YAML or JSON.

mod choice;
mod delivery;
mod file;
mod overrides;
mod pattern;
mod sharing;
mod word;

use tessera_vocabulary::ExtendedResources;

use crate::{InvalidResourceName, ResourceName};
pub use choice::{Choice, Fallback, Fallbacks, NoConfig};
pub use delivery::{Delivery, Extra, Way};
use file::File;
pub use overrides::Overrides;
pub use pattern::Pattern;
pub use sharing::{DeviceReference, Replicated, ReplicatedDevices, TimeSlicing};
pub use word::UnknownWord;

/// What an admin says about the extended resources of NVIDIA's GPUs. The default is what is offered where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// What becomes of partitions.
    pub mig_strategy: MigStrategy,
    /// Which of several devices of one accelerator a container should get.
    pub allocation_policy: AllocationPolicy,
    /// How a container gets its devices.
    pub delivery: Delivery,
    /// What whole accelerators are called, by their model: the first that matches. Empty: all by the family's name.
    pub wholes: Vec<Rename>,
    /// What partitions are called, by their shape. Empty: as the strategy says.
    pub partitions: Vec<Rename>,
    /// What several pods may have at once.
    pub time_slicing: Option<TimeSlicing>,
    /// What stands in the file, or was said over it, and changes nothing here. NVIDIA's device plugin says nothing about what
    /// it does not know.
    pub ignored: Vec<Ignored>,
}

/// Something that changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ignored {
    /// Where it stands.
    pub path: String,
    /// What is done instead.
    pub instead: &'static str,
}

/// What becomes of partitions (`flags.migStrategy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MigStrategy {
    /// They are not offered.
    #[default]
    None,
    /// They are called as whole accelerators are; all of the node must have the same shape.
    Single,
    /// They are called by their shape, beside the whole accelerators.
    Mixed,
}

/// Which of several devices of one accelerator a container should get (`flags.plugin.sharedDevicesAllocationPolicy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AllocationPolicy {
    /// Those of accelerators with the fewest users.
    #[default]
    Distributed,
    /// Those of accelerators with the most users.
    Packed,
}

/// What accelerators or partitions are called (`resources.gpus`, `resources.mig`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rename {
    /// The models, or the shapes.
    pub pattern: Pattern,
    /// Their name.
    pub name: ResourceName,
}

/// Why a file is no config.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Neither YAML nor JSON.
    #[error("it is no YAML: {0}")]
    Syntax(String),
    /// Something is not of the type that it must have, or is missing.
    #[error("{path}: {cause}")]
    Value {
        /// Where it stands.
        path: &'static str,
        /// What is wrong.
        cause: String,
    },
    /// None of the words that can stand there.
    #[error("{path}: {source}")]
    Word {
        /// Where it stands.
        path: &'static str,
        /// What is wrong.
        source: UnknownWord,
    },
    /// A name that Kubernetes does not take.
    #[error("{path}: {source}")]
    Name {
        /// Where it stands.
        path: &'static str,
        /// What is wrong.
        source: InvalidResourceName,
    },
}

impl Config {
    /// Reads a file. Refuses what NVIDIA's device plugin refuses; what that reads and then ignores (patterns, names and
    /// lists of devices) is followed.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        Self::read(text, &Overrides::default())
    }

    /// The same with what flags and the environment say above it. Without a file: that of an empty text.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn read(text: &str, overrides: &Overrides) -> Result<Self, ConfigError> {
        File::parse(text)?.config(overrides)
    }

    /// What an accelerator of a model is called; `None` where the admin names others and not this.
    pub(crate) fn whole(&self, model: &str, family: ExtendedResources) -> Option<ResourceName> {
        if self.wholes.is_empty() {
            return ResourceName::new(family.domain, family.whole).ok();
        }
        named(&self.wholes, model)
    }

    /// What a partition of a shape is called; `None` where the admin names others and not this, or the shape makes no name.
    pub(crate) fn partition(&self, shape: &str, family: ExtendedResources) -> Option<ResourceName> {
        if !self.partitions.is_empty() {
            return named(&self.partitions, shape);
        }
        match self.mig_strategy {
            MigStrategy::None => None,
            MigStrategy::Single => ResourceName::new(family.domain, family.whole).ok(),
            // A resource's name takes no +, as in 1g.10gb+me.
            MigStrategy::Mixed => {
                ResourceName::new(family.domain, &format!("{}{}", family.partition, shape.replace('+', "."))).ok()
            }
        }
    }
}

fn named(renames: &[Rename], what: &str) -> Option<ResourceName> {
    renames.iter().find(|rename| rename.pattern.matches(what)).map(|rename| rename.name.clone())
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::fs;
    use std::path::Path;

    use tessera_core::{Ledger, Offering};

    use super::*;
    use crate::offer;
    use crate::testing::{NOBODY, basis, cut, described, gpu, inventory};

    /// What a file yields, to be read: the answers to who asks what became of it.
    fn yields(text: &str) -> String {
        let config = match Config::parse(text) {
            Ok(config) => config,
            Err(error) => return format!("refused: {error}\n"),
        };
        let mut yields = String::new();
        let Delivery { ways, device_nodes, annotation_prefix, extras } = &config.delivery;
        let nodes = if *device_nodes { ", with device nodes" } else { "" };
        writeln!(yields, "delivered by {ways:?}{nodes}, annotations {annotation_prefix}, extras {extras:?}").unwrap();
        for Ignored { path, instead } in &config.ignored {
            writeln!(yields, "changes nothing: {path}: {instead}").unwrap();
        }
        let small = ["1g.5gb", "1g.5gb"];
        for (machine, accelerators) in [
            ("two GPUs", vec![gpu(1), gpu(9)]),
            ("two GPUs, cut alike", vec![cut(1, &small), cut(9, &small)]),
            ("two GPUs, one of them cut", vec![gpu(1), cut(9, &["1g.5gb", "3g.20gb"])]),
        ] {
            let inventory = inventory(Offering::NOTHING, accelerators);
            let offer = offer(&basis(&inventory.units(&Ledger::default()), &NOBODY), &config);
            write!(yields, "\n--- {machine}\n{}", described(&offer)).unwrap();
        }
        yields
    }

    /// Files as admins write them, most of them from NVIDIA's documentation.
    #[test]
    fn files_yield_what_their_writers_mean() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/fixtures");
        let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            insta::assert_snapshot!(file.file_stem().unwrap().to_str().unwrap(), yields(&text));
        }
    }

    #[test]
    fn what_is_said_above_the_file_stands() {
        let file = "{flags: {migStrategy: single, gdsEnabled: true, plugin: {deviceListStrategy: envvar, \
                    passDeviceSpecs: true, cdiAnnotationPrefix: a/, sharedDevicesAllocationPolicy: packed}}}";
        let alone = Config::read(file, &Overrides::default()).unwrap();
        assert_eq!(alone, Config::parse(file).unwrap());
        let overrides = Overrides {
            mig_strategy: Some(MigStrategy::Mixed),
            allocation_policy: Some(AllocationPolicy::Distributed),
            ways: Some([Way::VolumeMounts].into()),
            device_nodes: Some(false),
            annotation_prefix: Some("b/".to_owned()),
            gdrcopy: Some(true),
            gds: Some(false),
            mofed: None,
        };
        let said = Config::read(file, &overrides).unwrap();
        assert_eq!((said.mig_strategy, said.allocation_policy), (MigStrategy::Mixed, AllocationPolicy::Distributed));
        let delivery = Delivery {
            ways: [Way::VolumeMounts].into(),
            device_nodes: false,
            annotation_prefix: "b/".to_owned(),
            extras: [Extra::GdrCopy].into(),
        };
        assert_eq!(said.delivery, delivery);
    }

    #[test]
    fn what_nvidia_refuses_is_refused_with_its_place() {
        let slicing = |resource: &str| format!("sharing: {{timeSlicing: {{resources: [{resource}]}}}}");
        for (text, reason) in [
            ("version: v2".to_owned(), "version: must be v1, and is v2"),
            ("- a".to_owned(), "the file: must be a map"),
            ("a: [".to_owned(), "it is no YAML"),
            (
                "flags: {migStrategy: both}".to_owned(),
                "flags.migStrategy: must be one of none, single, mixed, and is \"both\"",
            ),
            ("flags: {plugin: {deviceListStrategy: cdi}}".to_owned(), "flags.plugin.deviceListStrategy"),
            ("flags: {plugin: {deviceIDStrategy: name}}".to_owned(), "flags.plugin.deviceIDStrategy"),
            (
                "flags: {plugin: {sharedDevicesAllocationPolicy: x}}".to_owned(),
                "must be one of distributed, packed, and is \"x\"",
            ),
            ("resources: {gpus: [{name: gpu}]}".to_owned(), "resources.gpus: each must have a pattern and a name"),
            ("resources: {mig: [{pattern: '*', name: GPU}]}".to_owned(), "resources.mig: resource name"),
            ("sharing: {timeSlicing: {}}".to_owned(), "sharing.timeSlicing.resources: names no resource"),
            (slicing("{name: gpu}"), "no replicas"),
            (slicing("{replicas: 2}"), "no name"),
            (slicing("{name: gpu, replicas: 1}"), "replicas must be a whole number from 2 on"),
            (slicing("{name: gpu, replicas: 2, devices: some}"), "devices must be all, a number or a list"),
            (slicing("{name: gpu, replicas: 2, devices: 0}"), "devices must be"),
            (slicing("{name: gpu, replicas: 2, devices: [GPU-1]}"), "\"GPU-1\" is no device"),
            (slicing("{name: GPU, replicas: 2}"), "resource name"),
            ("sharing: {mps: {resources: [{name: gpu, replicas: 2}]}}".to_owned(), "sharing.mps: is not served yet"),
        ] {
            let error = Config::parse(&text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn names_follow_patterns_and_the_strategy() {
        let config = |text: &str| Config::parse(text).unwrap();
        let nvidia = ExtendedResources::NVIDIA;
        for (text, model, shape, whole, partition) in [
            ("", "NVIDIA H100", "1g.10gb", Some("gpu"), None),
            ("flags: {migStrategy: single}", "NVIDIA H100", "1g.10gb", Some("gpu"), Some("gpu")),
            ("flags: {migStrategy: mixed}", "NVIDIA H100", "1g.10gb+me", Some("gpu"), Some("mig-1g.10gb.me")),
            (
                "resources: {gpus: [{pattern: A100, name: a}, {pattern: '*', name: b}]}",
                "NVIDIA H100",
                "",
                Some("b"),
                None,
            ),
            ("resources: {gpus: [{pattern: 'A100*40', name: a}]}", "NVIDIA A100-SXM4-40GB", "", Some("a"), None),
            ("resources: {gpus: [{pattern: 'A100*40', name: a}]}", "NVIDIA A100-SXM4-80GB", "", None, None),
            ("resources: {mig: [{pattern: 1g.*, name: tiny}]}", "", "1g.5gb", Some("gpu"), Some("tiny")),
        ] {
            let name = |name: Option<ResourceName>| name.map(|name| name.as_str().replace("nvidia.com/", ""));
            let found = (name(config(text).whole(model, nvidia)), name(config(text).partition(shape, nvidia)));
            assert_eq!((found.0.as_deref(), found.1.as_deref()), (whole, partition), "{text}");
        }
    }
}
