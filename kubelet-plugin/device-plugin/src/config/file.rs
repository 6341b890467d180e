use serde_json::{Map, Value};
use tessera_vocabulary::ExtendedResources;

use super::sharing::{Replicated, TimeSlicing};
use super::{AllocationPolicy, Config, ConfigError, MigStrategy, Pattern, Rename};
use crate::ResourceName;

/// The domain of all names in the file.
const DOMAIN: &str = ExtendedResources::NVIDIA.domain;

/// The ways in which NVIDIA's device plugin can hand over devices. Here it is always CDI.
const DEVICE_LISTS: [&str; 4] = ["envvar", "volume-mounts", "cdi-annotations", "cdi-cri"];
const DEVICE_IDS: [&str; 2] = ["uuid", "index"];

/// The content of a file: a tree whose branches are taken off as they are read, so that what is left is what nobody asked
/// for.
pub(super) struct File {
    root: Map<String, Value>,
    ignored: Vec<String>,
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

    pub(super) fn config(mut self) -> Result<Config, ConfigError> {
        let version = self.root.remove("version").unwrap_or_default();
        if !matches!(version.as_str(), Some("" | "v1")) && !version.is_null() {
            return Err(wrong("version", &format!("must be v1, and is {}", version.as_str().unwrap_or("no text"))));
        }
        let mut flags = section(&mut self.root, "flags", "flags")?;
        let mig_strategy = match word(&mut flags, "migStrategy", "flags.migStrategy")?.as_deref() {
            None | Some("none") => MigStrategy::None,
            Some("single") => MigStrategy::Single,
            Some("mixed") => MigStrategy::Mixed,
            Some(_) => return Err(wrong("flags.migStrategy", "must be none, single or mixed")),
        };
        let mut plugin = section(&mut flags, "plugin", "flags.plugin")?;
        let policy = "flags.plugin.sharedDevicesAllocationPolicy";
        let allocation_policy = match word(&mut plugin, "sharedDevicesAllocationPolicy", policy)?.as_deref() {
            None | Some("distributed") => AllocationPolicy::Distributed,
            Some("packed") => AllocationPolicy::Packed,
            Some(_) => return Err(wrong(policy, "must be distributed or packed")),
        };
        words(&plugin, "deviceListStrategy", "flags.plugin.deviceListStrategy", &DEVICE_LISTS)?;
        words(&plugin, "deviceIDStrategy", "flags.plugin.deviceIDStrategy", &DEVICE_IDS)?;

        let mut resources = section(&mut self.root, "resources", "resources")?;
        let wholes = renames(&mut resources, "gpus", "resources.gpus")?;
        let partitions = renames(&mut resources, "mig", "resources.mig")?;

        let mut sharing = section(&mut self.root, "sharing", "sharing")?;
        if !sharing.remove("mps").unwrap_or_default().is_null() {
            return Err(wrong("sharing.mps", "is not served yet; use sharing.timeSlicing"));
        }
        let time_slicing = self.time_slicing(&mut sharing)?;
        for (path, left) in
            [("flags.plugin.", plugin), ("flags.", flags), ("resources.", resources), ("sharing.", sharing)]
        {
            self.ignored.extend(left.keys().map(|key| format!("{path}{key}")));
        }
        self.ignored.extend(self.root.keys().cloned());
        self.ignored.sort();
        let ignored = self.ignored;
        Ok(Config { mig_strategy, allocation_policy, wholes, partitions, time_slicing, ignored })
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
        self.ignored.extend(slicing.keys().map(|key| format!("{path}.{key}")));
        Ok(Some(TimeSlicing { rename_by_default, fail_requests_greater_than_one, resources }))
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

fn flag(tree: &mut Map<String, Value>, key: &str, path: &'static str) -> Result<bool, ConfigError> {
    match tree.remove(key).unwrap_or_default() {
        Value::Null => Ok(false),
        Value::Bool(value) => Ok(value),
        _ => Err(wrong(path, "must be true or false")),
    }
}

/// Whether a value is one of these words, or a list of them.
fn words(tree: &Map<String, Value>, key: &str, path: &'static str, known: &[&str]) -> Result<(), ConfigError> {
    let is_known = |value: &Value| value.as_str().is_some_and(|word| known.contains(&word));
    let good = match tree.get(key) {
        None | Some(Value::Null) => true,
        Some(Value::Array(list)) => list.iter().all(is_known),
        Some(value) => is_known(value),
    };
    if good { Ok(()) } else { Err(wrong(path, &format!("must be of {}", known.join(", ")))) }
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
