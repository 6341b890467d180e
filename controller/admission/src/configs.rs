//! The opaque configs of an object, judged by the code of the agent.

use k8s_openapi::api::resource::v1::{DeviceClaim, DeviceClassSpec, OpaqueDeviceConfiguration};
use tessera_config::{Device, DeviceType, Entry, Place, Problem, check, resolve};

use crate::drivers::{Drivers, Whose};
use crate::verdict::Verdict;

/// A config and where it stands among others.
struct Config<'a> {
    /// `spec.devices.config[2]`.
    field: String,
    requests: &'a [String],
    opaque: &'a OpaqueDeviceConfiguration,
}

impl Config<'_> {
    /// The path of a field of its parameters, or of the parameters themselves.
    fn path(&self, below: Option<&str>) -> String {
        let dot = if below.is_some() { "." } else { "" };
        format!("{}.opaque.parameters{dot}{}", self.field, below.unwrap_or_default())
    }
}

/// Those of a claim, or of a template's claims. `path` is that of the object's `devices`. What these said before does not
/// count: they can be made, and not changed.
pub(crate) fn of_claim(drivers: &Drivers, path: &str, claim: &DeviceClaim) -> Verdict {
    let configs = claim.config.iter().flatten().enumerate().filter_map(|(index, config)| {
        let requests = config.requests.as_deref().unwrap_or_default();
        Some(Config { field: format!("{path}.config[{index}]"), requests, opaque: config.opaque.as_ref()? })
    });
    let configs: Vec<_> = configs.collect();
    let mut verdict = Verdict::good();
    let good = judge(drivers, Place::Claim, &configs, &mut verdict);
    warn_of_privileges(&good, &mut verdict);
    warn_of_disagreement(path, claim, &good, &mut verdict);
    verdict
}

/// Those of a class. One that it had before is not judged again.
pub(crate) fn of_class(drivers: &Drivers, class: &DeviceClassSpec, before: Option<&DeviceClassSpec>) -> Verdict {
    let before: Vec<_> = before
        .into_iter()
        .flat_map(|class| class.config.iter().flatten())
        .filter_map(|it| it.opaque.as_ref())
        .collect();
    let configs = class.config.iter().flatten().enumerate().filter_map(|(index, config)| {
        Some(Config { field: format!("spec.config[{index}]"), requests: &[], opaque: config.opaque.as_ref()? })
    });
    let configs: Vec<_> = configs.filter(|config| !before.contains(&config.opaque)).collect();
    let mut verdict = Verdict::good();
    judge(drivers, Place::Class, &configs, &mut verdict);
    verdict
}

/// Says what is wrong with each, and gives those that may stand where they stand, with the type of the devices that they
/// are for.
fn judge<'a, 'b>(
    drivers: &Drivers,
    place: Place,
    configs: &'b [Config<'a>],
    verdict: &mut Verdict,
) -> Vec<(&'b Config<'a>, DeviceType)> {
    let mut good = Vec::new();
    for config in configs {
        let name = &config.opaque.driver;
        let family = match drivers.find(name) {
            Whose::Ours(family) => family,
            Whose::Misspelt(ours) => {
                let field = format!("{}.opaque.driver", config.field);
                verdict.warn(field, format_args!("{name} is not {ours}, and so the config has no effect"));
                continue;
            }
            Whose::Others => continue,
        };
        match check(&config.opaque.parameters.0, place) {
            Err(error) => verdict.refuse(config.path(error.problem.path()), error),
            Ok(device_type) if family.has(device_type) => good.push((config, device_type)),
            Ok(device_type) => {
                let others = drivers.with(device_type).map_or_else(String::new, |driver| format!(" of {driver}"));
                let text = format!("it is for a {device_type}{others}, and {name} has none");
                verdict.warn(config.path(Some("kind")), text);
            }
        }
    }
    good
}

/// What only a class can give is no error in a claim: its class may give it, and may be written later.
fn warn_of_privileges(configs: &[(&Config<'_>, DeviceType)], verdict: &mut Verdict) {
    for (config, device_type) in configs {
        let entry = Entry { place: Place::Claim, requests: &[], parameters: &config.opaque.parameters.0 };
        // Of a class that gives nothing.
        let device = Device { request: "", device_type: *device_type };
        if let Err(error) = resolve(&[entry], &[device]) {
            let field = config.path(error.problem.path());
            verdict.warn(field, format_args!("{error}; unless it is said there, no pod can use this"));
        }
    }
}

/// Two requests of which different things are said where a container has one. No error: which of them get devices of ours
/// shows only when they are allocated.
fn warn_of_disagreement<'a>(
    path: &str,
    claim: &DeviceClaim,
    configs: &[(&Config<'a>, DeviceType)],
    verdict: &mut Verdict,
) {
    let is_one =
        |name: &str| claim.requests.iter().flatten().any(|request| request.name == name && request.exactly.is_some());
    let entry = |(config, _): &(&Config<'a>, DeviceType)| Entry {
        place: Place::Claim,
        requests: config.requests,
        parameters: &config.opaque.parameters.0,
    };
    let entries: Vec<_> = configs.iter().map(entry).collect();
    let devices = configs.iter().flat_map(|(config, device_type)| {
        let named = config.requests.iter().filter(|name| is_one(name));
        named.map(|request| Device { request, device_type: *device_type })
    });
    let devices: Vec<_> = devices.collect();
    if let Err(error) = resolve(&entries, &devices)
        && matches!(error.problem, Problem::Disagreement(_))
    {
        verdict.warn(format_args!("{path}.config"), format_args!("{error}; no pod can use this as it is"));
    }
}
