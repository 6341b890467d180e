mod agreement;

use serde_json::Value;

use self::agreement::{SetUp, agree};
use crate::error::clipped;
use crate::kinds::decode;
use crate::{ConfigError, DeviceConfig, DeviceType, Place, Problem};

/// One config that a claim was allocated with: an entry of `status.allocation.devices.config` for our driver.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Where it stands.
    pub place: Place,
    /// The requests that it is for, `request` or `request/subrequest`; none means all. Since Kubernetes 1.37 the API
    /// server also writes none where the user named every request.
    pub requests: &'a [String],
    /// The value of `opaque.parameters`.
    pub parameters: &'a Value,
}

impl Entry<'_> {
    fn covers(&self, device: &Device<'_>) -> bool {
        self.requests.is_empty() || self.requests.iter().any(|name| device.is_of(name))
    }
}

/// One device of ours that a claim was allocated.
#[derive(Clone, Copy, Debug)]
pub struct Device<'a> {
    /// The request that it is for, as the allocation's result has it: `request/subrequest` where one of several was chosen.
    pub request: &'a str,
    /// What it is.
    pub device_type: DeviceType,
}

impl Device<'_> {
    /// Whether a name in a config is that of this device's request. The name of a request stands for all its subrequests.
    fn is_of(&self, name: &str) -> bool {
        self.request.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// What holds for each of the devices, in their order.
///
/// The built-in defaults hold unless a class says otherwise, and what the class says unless the claim does. Of two
/// entries of one place the later one counts. Each setting by itself: what an entry leaves unsaid stays as it was.
///
/// An entry that names no requests is for the devices that its kind fits, if there are any: the claim may have been
/// content with one of several types. So is one of a class, whatever it names: its author named nothing, the scheduler
/// did. An entry that only names requests of which no device is here is passed over
/// unread: those are other drivers', or were not chosen.
///
/// # Errors
/// The first entry that is not allowed, or that in a claim names a request whose devices its kind does not fit, or asks for
/// what only the class can give and does not. Then two requests of which different things hold that act on a whole
/// container, since a container may be given both; a request of which nothing is said takes part in no difference.
pub fn resolve(entries: &[Entry<'_>], devices: &[Device<'_>]) -> Result<Vec<DeviceConfig>, ConfigError> {
    let mut configs: Vec<_> = devices.iter().map(|device| DeviceConfig::default_for(device.device_type)).collect();
    let mut ordered: Vec<_> = entries.iter().collect();
    // Stable, so that entries of one place keep their order.
    ordered.sort_by_key(|entry| entry.place);
    // What the classes say, once the first claim's entry comes.
    let mut by_class = None;
    // For each device the place and kind of the entry that was last to say something of it.
    let mut last_said = vec![None; devices.len()];
    for entry in ordered {
        if !devices.iter().any(|device| entry.covers(device)) {
            continue;
        }
        let (kind, said) = decode(entry.parameters, entry.place)?;
        if entry.place == Place::Claim {
            let given = by_class.get_or_insert_with(|| configs.clone());
            let covered = devices.iter().zip(given).filter(|(device, _)| entry.covers(device));
            named_fit(entry, said.device_type(), devices)
                .and_then(|()| covered.map(|(_, given)| &*given).try_for_each(|given| said.allowed(given)))
                .map_err(|problem| ConfigError { place: entry.place, kind: Some(kind), problem })?;
        }
        for ((device, config), last) in devices.iter().zip(&mut configs).zip(&mut last_said) {
            if entry.covers(device) && said.device_type() == device.device_type {
                said.apply(config);
                *last = Some((entry.place, kind));
            }
        }
    }
    let set_up = devices.iter().zip(&configs).zip(last_said).filter_map(|((device, config), last)| {
        last.map(|(place, kind)| SetUp { device: *device, config, place, kind })
    });
    agree(set_up)?;
    Ok(configs)
}

/// Whether each request that an entry names has a device of the wanted type, if it has a device here at all.
fn named_fit(entry: &Entry<'_>, wanted: DeviceType, devices: &[Device<'_>]) -> Result<(), Problem> {
    for name in entry.requests {
        let mut types = devices.iter().filter(|device| device.is_of(name)).map(|device| device.device_type);
        // A request without a selector for the type, in mode All, has devices of several types.
        if let Some(found) = types.next()
            && found != wanted
            && !types.any(|device_type| device_type == wanted)
        {
            return Err(Problem::WrongDevice { request: clipped(name), found, wanted });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
