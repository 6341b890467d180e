use std::collections::BTreeSet;
use std::str::FromStr;

use serde_json::{Map, Value};
use tessera_vocabulary::ExtendedResources;

use super::sharing::{Replicated, TimeSlicing};
use super::{Config, ConfigError, Delivery, Extra, Ignored, Overrides, Pattern, Rename, UnknownWord, Way, word};
use crate::ResourceName;

/// The domain of all names in the file.
const DOMAIN: &str = ExtendedResources::NVIDIA.domain;

/// What NVIDIA's device plugin knows and this does otherwise.
const INSTEAD: [(&str, &str); 12] = [
    ("flags.deviceDiscoveryStrategy", "GPUs are found by NVML"),
    ("flags.failOnInitError", "a node without GPUs is looked at again each second"),
    ("flags.gfd", "the agent has flags of its own for labels"),
    ("flags.mpsRoot", "MPS is not served yet"),
    ("flags.nvidiaDevRoot", "--root says it"),
    ("flags.nvidiaDriverRoot", "--nvidia-driver-root says it"),
    ("flags.plugin.containerDriverRoot", "--nvidia-driver-root says it"),
    (
        "flags.plugin.deviceIDStrategy",
        "devices are named by UUID, since a number may be another device's after a restart",
    ),
    ("flags.plugin.nvidiaCDIHookPath", "--hook says it"),
    ("flags.plugin.nvidiaCTKPath", "--hook says it"),
    ("flags.useNodeFeatureAPI", "the agent has flags of its own for labels"),
    ("imex", "IMEX channels are not served yet"),
];

/// The content of a file: a tree whose branches are taken off as they are read, so that what is left is what nobody asked
/// for.
pub(super) struct File {
    root: Map<String, Value>,
    ignored: Vec<Ignored>,
}

impl File {
    pub(super) fn parse(text: &str) -> Result<Self, ConfigError> {
        // A file that holds nothing but comments is an empty one.
        let root: Option<Value> =
            serde_saphyr::from_str(text).map_err(|error| ConfigError::Syntax(error.to_string()))?;
        match root {
            None | Some(Value::Null) => Ok(Self { root: Map::new(), ignored: Vec::new() }),
            Some(Value::Object(root)) => Ok(Self { root, ignored: Vec::new() }),
            Some(_) => Err(wrong("the file", "must be a map")),
        }
    }

    pub(super) fn config(mut self, overrides: &Overrides) -> Result<Config, ConfigError> {
        let version = self.root.remove("version").unwrap_or_default();
        if !matches!(version.as_str(), Some("" | "v1")) && !version.is_null() {
            return Err(wrong("version", &format!("must be v1, and is {}", version.as_str().unwrap_or("no text"))));
        }
        let mut flags = section(&mut self.root, "flags", "flags")?;
        let mig_strategy = one_of(&mut flags, "migStrategy", "flags.migStrategy")?;
        let mut plugin = section(&mut flags, "plugin", "flags.plugin")?;
        let policy = "flags.plugin.sharedDevicesAllocationPolicy";
        let allocation_policy = one_of(&mut plugin, "sharedDevicesAllocationPolicy", policy)?;
        refuse_unknown(&plugin, "deviceIDStrategy", "flags.plugin.deviceIDStrategy", &[("uuid", ()), ("index", ())])?;
        // The other is the default, and said by many.
        if plugin.get("deviceIDStrategy").is_none_or(|value| value.is_null() || value == "uuid") {
            plugin.remove("deviceIDStrategy");
        }
        let discovery = [("auto", ()), ("nvml", ())];
        refuse_unknown(&flags, "deviceDiscoveryStrategy", "flags.deviceDiscoveryStrategy", &discovery)?;
        let delivery = self.delivery(&mut flags, &mut plugin, overrides)?;
        self.refuse_channels()?;

        let mut resources = section(&mut self.root, "resources", "resources")?;
        let wholes = renames(&mut resources, "gpus", "resources.gpus")?;
        let partitions = renames(&mut resources, "mig", "resources.mig")?;

        let mut sharing = section(&mut self.root, "sharing", "sharing")?;
        if !sharing.remove("mps").unwrap_or_default().is_null() {
            return Err(wrong("sharing.mps", "is not served yet; use sharing.timeSlicing"));
        }
        let time_slicing = self.time_slicing(&mut sharing)?;
        let root = std::mem::take(&mut self.root);
        for (path, left) in
            [("flags.plugin.", plugin), ("flags.", flags), ("resources.", resources), ("sharing.", sharing), ("", root)]
        {
            left.keys().for_each(|key| self.ignore(format!("{path}{key}")));
        }
        self.ignored.sort();
        Ok(Config {
            mig_strategy: overrides.mig_strategy.or(mig_strategy).unwrap_or_default(),
            allocation_policy: overrides.allocation_policy.or(allocation_policy).unwrap_or_default(),
            delivery,
            wholes,
            partitions,
            time_slicing,
            ignored: self.ignored,
        })
    }

    fn delivery(
        &mut self,
        flags: &mut Map<String, Value>,
        plugin: &mut Map<String, Value>,
        overrides: &Overrides,
    ) -> Result<Delivery, ConfigError> {
        let default = Delivery::default();
        let ways = ways(plugin)?;
        let nodes = flag(plugin, "passDeviceSpecs", "flags.plugin.passDeviceSpecs")?;
        let prefix = word(plugin, "cdiAnnotationPrefix", "flags.plugin.cdiAnnotationPrefix")?;
        let mut delivery = Delivery {
            ways: overrides.ways.clone().or(ways).filter(|ways| !ways.is_empty()).unwrap_or(default.ways),
            device_nodes: overrides.device_nodes.or(nodes).unwrap_or_default(),
            annotation_prefix: overrides.annotation_prefix.clone().or(prefix).unwrap_or(default.annotation_prefix),
            extras: BTreeSet::new(),
        };
        for (extra, key, path, said) in [
            (Extra::GdrCopy, "gdrcopyEnabled", "flags.gdrcopyEnabled", overrides.gdrcopy),
            (Extra::Gds, "gdsEnabled", "flags.gdsEnabled", overrides.gds),
            (Extra::Mofed, "mofedEnabled", "flags.mofedEnabled", overrides.mofed),
        ] {
            if said.or(flag(flags, key, path)?) == Some(true) {
                delivery.extras.insert(extra);
                if !delivery.by_nvidia_runtime() {
                    let instead =
                        "only NVIDIA's container runtime knows it: deviceListStrategy envvar or volume-mounts";
                    self.ignored.push(Ignored { path: path.to_owned(), instead });
                }
            }
        }
        if delivery.device_nodes && !delivery.by_nvidia_runtime() {
            let instead = "CDI names the nodes itself";
            self.ignored.push(Ignored { path: "flags.plugin.passDeviceSpecs".to_owned(), instead });
        }
        Ok(delivery)
    }

    /// A job that needs channels must not start without them.
    fn refuse_channels(&mut self) -> Result<(), ConfigError> {
        let mut imex = section(&mut self.root, "imex", "imex")?;
        let channels = imex.remove("channelIDs").unwrap_or_default();
        let required = flag(&mut imex, "required", "imex.required")?.unwrap_or_default();
        match channels {
            Value::Null => {}
            Value::Array(channels) if channels.is_empty() => {}
            Value::Array(channels) if channels.iter().any(|channel| channel.as_u64() != Some(0)) => {
                return Err(wrong("imex.channelIDs", "must be [0] or []"));
            }
            Value::Array(_) if required => {
                return Err(wrong("imex.required", "IMEX channels are not served yet; say required: false"));
            }
            Value::Array(_) => self.ignore("imex".to_owned()),
            _ => return Err(wrong("imex.channelIDs", "must be [0] or []")),
        }
        imex.keys().for_each(|key| self.ignore(format!("imex.{key}")));
        Ok(())
    }

    fn time_slicing(&mut self, sharing: &mut Map<String, Value>) -> Result<Option<TimeSlicing>, ConfigError> {
        let path = "sharing.timeSlicing";
        if sharing.get("timeSlicing").is_none_or(Value::is_null) {
            sharing.remove("timeSlicing");
            return Ok(None);
        }
        let mut slicing = section(sharing, "timeSlicing", path)?;
        let rename_by_default = flag(&mut slicing, "renameByDefault", "sharing.timeSlicing.renameByDefault")?;
        let one = "sharing.timeSlicing.failRequestsGreaterThanOne";
        let fail_requests_greater_than_one = flag(&mut slicing, "failRequestsGreaterThanOne", one)?;
        let resources = match slicing.remove("resources") {
            Some(Value::Array(list)) if !list.is_empty() => {
                list.iter().map(|one| Replicated::read(one, DOMAIN)).collect::<Result<_, _>>()?
            }
            _ => return Err(wrong("sharing.timeSlicing.resources", "names no resource")),
        };
        slicing.keys().for_each(|key| self.ignore(format!("{path}.{key}")));
        Ok(Some(TimeSlicing {
            rename_by_default: rename_by_default.unwrap_or_default(),
            fail_requests_greater_than_one: fail_requests_greater_than_one.unwrap_or_default(),
            resources,
        }))
    }

    fn ignore(&mut self, path: String) {
        let known = INSTEAD.iter().find(|(known, _)| *known == path).map(|(_, instead)| *instead);
        self.ignored.push(Ignored { path, instead: known.unwrap_or("nothing of that name is known") });
    }
}

fn wrong(path: &'static str, cause: &str) -> ConfigError {
    ConfigError::Value { path, cause: cause.to_owned() }
}

/// A map in the tree; that it is not there is as if it were empty.
fn section(tree: &mut Map<String, Value>, key: &str, path: &'static str) -> Result<Map<String, Value>, ConfigError> {
    match tree.remove(key).unwrap_or_default() {
        Value::Null => Ok(Map::new()),
        Value::Object(map) => Ok(map),
        _ => Err(wrong(path, "must be a map")),
    }
}

fn word(tree: &mut Map<String, Value>, key: &str, path: &'static str) -> Result<Option<String>, ConfigError> {
    match tree.remove(key).unwrap_or_default() {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        _ => Err(wrong(path, "must be a text")),
    }
}

fn one_of<T: FromStr<Err = UnknownWord>>(
    tree: &mut Map<String, Value>,
    key: &str,
    path: &'static str,
) -> Result<Option<T>, ConfigError> {
    let word = word(tree, key, path)?;
    word.map(|word| word.parse().map_err(|source| ConfigError::Word { path, source })).transpose()
}

/// What changes nothing here must still be what it can be.
fn refuse_unknown(
    tree: &Map<String, Value>,
    key: &str,
    path: &'static str,
    known: &[(&'static str, ())],
) -> Result<(), ConfigError> {
    match tree.get(key) {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(text)) => word::of(known, text).map_err(|source| ConfigError::Word { path, source }),
        Some(_) => Err(wrong(path, "must be a text")),
    }
}

fn flag(tree: &mut Map<String, Value>, key: &str, path: &'static str) -> Result<Option<bool>, ConfigError> {
    match tree.remove(key).unwrap_or_default() {
        Value::Null => Ok(None),
        Value::Bool(value) => Ok(Some(value)),
        _ => Err(wrong(path, "must be true or false")),
    }
}

/// One word or a list of them.
fn ways(plugin: &mut Map<String, Value>) -> Result<Option<BTreeSet<Way>>, ConfigError> {
    let path = "flags.plugin.deviceListStrategy";
    let way = |value: &Value| match value {
        Value::String(word) => word.parse().map_err(|source| ConfigError::Word { path, source }),
        _ => Err(wrong(path, "must be a text or a list of texts")),
    };
    match plugin.remove("deviceListStrategy").unwrap_or_default() {
        Value::Null => Ok(None),
        Value::Array(list) => list.iter().map(way).collect::<Result<_, _>>().map(Some),
        one => way(&one).map(|way| Some(BTreeSet::from([way]))),
    }
}

fn renames(tree: &mut Map<String, Value>, key: &str, path: &'static str) -> Result<Vec<Rename>, ConfigError> {
    let list = match tree.remove(key).unwrap_or_default() {
        Value::Null => return Ok(Vec::new()),
        Value::Array(list) => list,
        _ => return Err(wrong(path, "must be a list")),
    };
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let read = |value: &Value| {
        let both = text(value, "pattern").zip(text(value, "name"));
        let (pattern, name) = both.ok_or_else(|| wrong(path, "each must have a pattern and a name"))?;
        let name = ResourceName::new(DOMAIN, &name).map_err(|source| ConfigError::Name { path, source })?;
        Ok(Rename { pattern: Pattern(pattern), name })
    };
    list.iter().map(read).collect()
}
