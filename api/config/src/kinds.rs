use serde_json::Value;

use crate::object::Object;
use crate::{ConfigError, DeviceConfig, DeviceType, Place, Problem, google, nvidia};

/// A kind of config: its name, and how its fields are read.
pub(crate) type Kind = (&'static str, fn(&Object<'_>) -> Result<Said, Problem>);

/// Every apiVersion with its kinds. Settings that no vendor has a kind for get a group of ours, and a row here.
const GROUPS: &[(&str, &[Kind])] = &[(nvidia::API_VERSION, nvidia::KINDS), (google::API_VERSION, google::KINDS)];

/// The two fields that every config has.
pub(crate) const API_VERSION: &str = "apiVersion";
pub(crate) const KIND: &str = "kind";

/// What one config says: some settings, maybe none, for devices of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Gpu,
    Mig,
    Vfio(nvidia::VfioSettings),
    Tpu(google::LoggingSettings),
}

impl Said {
    pub(crate) fn device_type(&self) -> DeviceType {
        match self {
            Self::Gpu => DeviceType::Gpu,
            Self::Mig => DeviceType::Partition,
            Self::Vfio(_) => DeviceType::Passthrough,
            Self::Tpu(_) => DeviceType::Tpu,
        }
    }

    /// Whether a claim may say this of a device for which its class says `given`: not what gives away the node, unless the
    /// class does.
    pub(crate) fn allowed(&self, given: &DeviceConfig) -> Result<(), Problem> {
        match (self, given) {
            (Self::Vfio(settings), DeviceConfig::Passthrough(given)) => settings.allowed(given),
            _ => Ok(()),
        }
    }

    /// Puts what is said over what held so far. Of a device of another type it says nothing.
    pub(crate) fn apply(&self, config: &mut DeviceConfig) {
        match (self, config) {
            (Self::Vfio(settings), DeviceConfig::Passthrough(config)) => settings.apply(config),
            (Self::Tpu(settings), DeviceConfig::Tpu(config)) => settings.apply(&mut config.logging),
            _ => {}
        }
    }
}

/// Whether a config may stand where it stands: for admission, of claims, templates and classes. Whether a claim may have
/// what only its class can give shows when the class is known too; see [`resolve`](crate::resolve).
///
/// Gives the type of the devices that the config is for.
///
/// `parameters` is the value of `opaque.parameters` in an entry whose `opaque.driver` is ours; entries for other drivers
/// are not ours to judge.
///
/// # Errors
/// See [`Problem`]; never [`Problem::WrongDevice`], [`Problem::ForClassAlone`] and [`Problem::Disagreement`], which show
/// only when devices are allocated.
pub fn check(parameters: &Value, place: Place) -> Result<DeviceType, ConfigError> {
    decode(parameters, place).map(|(_, said)| said.device_type())
}

/// Reads a config, of whatever kind it is, to the last field.
pub(crate) fn decode(parameters: &Value, place: Place) -> Result<(&'static str, Said), ConfigError> {
    let refused = |kind| move |problem| ConfigError { place, kind, problem };
    let object = Object::of_parameters(parameters).map_err(refused(None))?;
    let kinds = object.required(API_VERSION, GROUPS).map_err(refused(None))?;
    let by_name: Vec<_> = kinds.iter().map(|kind| (kind.0, *kind)).collect();
    let (name, read) = object.required(KIND, &by_name).map_err(refused(None))?;
    let said = read(&object).map_err(refused(Some(name)))?;
    Ok((name, said))
}

#[cfg(test)]
mod tests;
