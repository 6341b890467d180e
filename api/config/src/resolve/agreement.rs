use std::collections::BTreeMap;

use super::Device;
use crate::error::{Disagreement, clipped};
use crate::{ConfigError, DeviceConfig, Place, Problem, Variable};

/// A device of which some config says something.
pub(super) struct SetUp<'a> {
    pub(super) device: Device<'a>,
    pub(super) config: &'a DeviceConfig,
    /// Where the last of those configs stands.
    pub(super) place: Place,
    /// The kind of them.
    pub(super) kind: &'static str,
}

/// Whether no two devices say different things by one variable. A container may be given both, and of one variable it
/// would see whatever the runtime came to last; Google's driver refuses such claims too.
///
/// # Errors
/// The first two that differ, as a matter of the claim unless its classes alone have said it.
pub(super) fn agree<'a>(all: impl Iterator<Item = SetUp<'a>>) -> Result<(), ConfigError> {
    let mut first: BTreeMap<&str, (String, Device<'_>, Place)> = BTreeMap::new();
    for SetUp { device, config, place, kind } in all {
        for Variable { name, value, path } in config.environment() {
            let (one, earlier, its_place) = first.entry(name).or_insert_with(|| (value.clone(), device, place));
            if *one != value {
                let disagreement = Disagreement {
                    path,
                    request: clipped(earlier.request),
                    one: one.clone(),
                    other: clipped(device.request),
                    another: value,
                };
                let problem = Problem::Disagreement(Box::new(disagreement));
                return Err(ConfigError { place: place.max(*its_place), kind: Some(kind), problem });
            }
        }
    }
    Ok(())
}
