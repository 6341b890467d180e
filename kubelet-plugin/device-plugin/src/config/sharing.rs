use std::fmt;

use serde_json::Value;

use super::ConfigError;
use crate::ResourceName;

/// Where this stands in the file.
const RESOURCES: &str = "sharing.timeSlicing.resources";

/// What several pods may have at once: each sees all of an accelerator, and the accelerator divides its time among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeSlicing {
    /// Whether what is shared is told from what is not by `.shared` behind its name.
    pub rename_by_default: bool,
    /// Whether a container that asks for several replicas is refused: it would get no more time for it.
    pub fail_requests_greater_than_one: bool,
    /// What is shared.
    pub resources: Vec<Replicated>,
}

/// A resource of which each device is there several times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicated {
    /// Its name.
    pub name: ResourceName,
    /// What the replicas are called, if not so.
    pub rename: Option<ResourceName>,
    /// Which of its devices.
    pub devices: ReplicatedDevices,
    /// How often each is there; 2 or more.
    pub replicas: u32,
}

/// Which devices of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicatedDevices {
    /// All of them.
    All,
    /// The first so many.
    Count(usize),
    /// These.
    These(Vec<DeviceReference>),
}

/// How an admin names a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceReference {
    /// A whole accelerator, by its number in the order of PCI addresses.
    Whole(usize),
    /// A partition, by the number of its accelerator and its own in the order of places.
    Partition(usize, usize),
    /// Either, by the UUID.
    Uuid(String),
}

impl fmt::Display for DeviceReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(accelerator) => accelerator.fmt(f),
            Self::Partition(accelerator, partition) => write!(f, "{accelerator}:{partition}"),
            Self::Uuid(uuid) => f.write_str(uuid),
        }
    }
}

impl Replicated {
    /// Reads one, with the domain that its names are in.
    pub(super) fn read(value: &Value, domain: &str) -> Result<Self, ConfigError> {
        let wrong = |cause: &str| ConfigError::Value { path: RESOURCES, cause: format!("{cause} ({value})") };
        let name = |key: &str| match value.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(name)) if name.is_empty() => Ok(None),
            Some(Value::String(name)) => ResourceName::new(domain, name)
                .map(Some)
                .map_err(|source| ConfigError::Name { path: RESOURCES, source }),
            Some(_) => Err(wrong("a name must be a text")),
        };
        let replicas = value.get("replicas").ok_or_else(|| wrong("one says no replicas"))?.as_u64();
        let replicas = replicas.filter(|number| *number >= 2).and_then(|number| number.try_into().ok());
        Ok(Self {
            name: name("name")?.ok_or_else(|| wrong("one has no name"))?,
            rename: name("rename")?,
            devices: value.get("devices").map_or(Ok(ReplicatedDevices::All), devices)?,
            replicas: replicas.ok_or_else(|| wrong("replicas must be a whole number from 2 on"))?,
        })
    }
}

fn devices(value: &Value) -> Result<ReplicatedDevices, ConfigError> {
    let wrong = |cause: String| ConfigError::Value { path: RESOURCES, cause };
    let count = || value.as_u64().filter(|count| *count > 0).and_then(|count| count.try_into().ok());
    match value {
        Value::String(all) if all == "all" => Ok(ReplicatedDevices::All),
        Value::Array(list) => {
            let all = list.iter().map(|one| reference(one).ok_or_else(|| wrong(format!("{one} is no device"))));
            all.collect::<Result<_, _>>().map(ReplicatedDevices::These)
        }
        _ => {
            count().map(ReplicatedDevices::Count).ok_or_else(|| wrong("devices must be all, a number or a list".into()))
        }
    }
}

/// A number, `<number>:<number>`, `GPU-<uuid>`, `MIG-<uuid>` or `MIG-GPU-<uuid>/<number>/<number>`.
fn reference(value: &Value) -> Option<DeviceReference> {
    let text = match value {
        Value::Number(number) => return Some(DeviceReference::Whole(number.as_u64()?.try_into().ok()?)),
        Value::String(text) => text,
        _ => return None,
    };
    if let Ok(number) = text.parse() {
        return Some(DeviceReference::Whole(number));
    }
    if let Some((accelerator, partition)) = text.split_once(':') {
        return Some(DeviceReference::Partition(accelerator.parse().ok()?, partition.parse().ok()?));
    }
    let is_uuid = |text: &str| {
        let lengths = text.split('-').map(str::len);
        lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
    };
    let rest = text.strip_prefix("GPU-").or_else(|| text.strip_prefix("MIG-"))?;
    let named_by_accelerator = || {
        let mut parts = text.strip_prefix("MIG-GPU-")?.split('/');
        let known = is_uuid(parts.next()?) && parts.clone().count() == 2;
        (known && parts.all(|part| part.parse::<u32>().is_ok())).then_some(())
    };
    (is_uuid(rest) || named_by_accelerator().is_some()).then(|| DeviceReference::Uuid(text.clone()))
}
