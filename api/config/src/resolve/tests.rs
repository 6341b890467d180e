use serde_json::json;

use super::*;
use crate::{IommuBackendPolicy, IommuConfig, VfioDeviceConfig};

const GPU: DeviceType = DeviceType::Gpu;
const TPU: DeviceType = DeviceType::Tpu;
const PARTITION: DeviceType = DeviceType::Partition;
const VFIO: DeviceType = DeviceType::Passthrough;

fn config(kind: &str, iommu: Value) -> Value {
    let mut parameters = json!({"apiVersion": "resource.nvidia.com/v1beta1", "kind": kind});
    if !iommu.is_null() {
        parameters["iommu"] = iommu;
    }
    parameters
}

/// A config of Google's kind; `null`: without logging.
fn tpu_config(logging: Value) -> Value {
    json!({"apiVersion": "tpu.resource.google.com/v1alpha1", "kind": "TpuConfig", "logging": logging})
}

/// An entry: its place, the requests that it names, its parameters.
type Said<'a> = (Place, &'a [&'a str], Value);

fn resolved(entries: &[Said<'_>], devices: &[(&'static str, DeviceType)]) -> Result<Vec<DeviceConfig>, ConfigError> {
    let names: Vec<Vec<String>> =
        entries.iter().map(|(_, names, _)| names.iter().map(|name| (*name).to_owned()).collect()).collect();
    let entries: Vec<_> = entries
        .iter()
        .zip(&names)
        .map(|((place, _, parameters), requests)| Entry { place: *place, requests, parameters })
        .collect();
    let devices: Vec<_> =
        devices.iter().map(|(request, device_type)| Device { request, device_type: *device_type }).collect();
    resolve(&entries, &devices)
}

/// What holds for one passthrough device in the request `vm/large`: `fd` or `group`, and ` api` with the API device.
fn vfio(entries: &[Said<'_>]) -> String {
    match resolved(entries, &[("vm/large", VFIO)]) {
        Ok(configs) => shown(&configs[0]),
        Err(error) => error.to_string(),
    }
}

fn shown(config: &DeviceConfig) -> String {
    match config {
        DeviceConfig::Gpu(_) => "gpu".to_owned(),
        DeviceConfig::Tpu(config) => {
            let told: Vec<_> = config.environment().iter().map(ToString::to_string).collect();
            format!("tpu {}", told.join(" "))
        }
        DeviceConfig::Partition(_) => "partition".to_owned(),
        DeviceConfig::Passthrough(VfioDeviceConfig { iommu: IommuConfig { backend_policy, enable_api_device } }) => {
            let interface = match backend_policy {
                IommuBackendPolicy::LegacyOnly => "group",
                IommuBackendPolicy::PreferIommuFd => "fd",
            };
            format!("{interface}{}", if *enable_api_device { " api" } else { "" })
        }
    }
}

#[test]
fn a_claim_beats_its_class_and_the_later_beats_the_earlier_setting_by_setting() {
    use Place::{Claim, Class};
    let said = |iommu: Value| config("VfioDeviceConfig", iommu);
    let fd = || said(json!({"backendPolicy": "PreferIommuFD"}));
    let group = || said(json!({"backendPolicy": "LegacyOnly"}));
    let api = || said(json!({"enableAPIDevice": true}));
    let no_api = || said(json!({"enableAPIDevice": false}));
    let nothing = || said(Value::Null);
    let cases: &[(&[Said<'_>], &str)] = &[
        (&[], "group"),
        (&[(Claim, &[], nothing())], "group"),
        (&[(Class, &[], fd())], "fd"),
        (&[(Claim, &[], fd())], "fd"),
        (&[(Class, &[], fd()), (Claim, &[], group())], "group"),
        (&[(Class, &[], group()), (Claim, &[], fd())], "fd"),
        // Whatever the order in the list.
        (&[(Claim, &[], fd()), (Class, &[], group())], "fd"),
        (&[(Class, &[], fd()), (Class, &[], group())], "group"),
        (&[(Claim, &[], group()), (Claim, &[], fd())], "fd"),
        // API servers up to 1.36 repeat an entry for each request that it names.
        (&[(Claim, &["vm"], group()), (Claim, &["vm"], group()), (Claim, &[], fd()), (Claim, &[], fd())], "fd"),
        // What is left unsaid stays.
        (&[(Class, &[], fd()), (Claim, &[], nothing())], "fd"),
        (&[(Class, &[], fd()), (Claim, &[], said(json!({})))], "fd"),
        (&[(Class, &[], api()), (Claim, &[], fd())], "fd api"),
        (&[(Class, &[], api()), (Class, &[], fd()), (Claim, &[], group())], "group api"),
        (&[(Class, &[], api()), (Claim, &[], no_api())], "group"),
        (&[(Class, &[], no_api()), (Class, &[], api())], "group api"),
        // What the class gives, the claim may ask for.
        (&[(Class, &[], api()), (Claim, &[], api())], "group api"),
        (&[(Claim, &["vm"], api()), (Class, &["vm"], api())], "group api"),
        (&[(Class, &[], api()), (Claim, &[], no_api()), (Claim, &[], api())], "group api"),
    ];
    for (entries, expected) in cases {
        assert_eq!(vfio(entries), *expected, "{entries:?}");
    }
}

#[test]
fn an_entry_is_for_the_requests_that_it_names() {
    let fd = || config("VfioDeviceConfig", json!({"backendPolicy": "PreferIommuFD"}));
    let cases: &[(&[&str], &str)] = &[
        (&[], "fd"),
        (&["vm"], "fd"),
        (&["vm/large"], "fd"),
        (&["other", "vm"], "fd"),
        (&["vm/small"], "group"),
        (&["vm/large/"], "group"),
        (&["v"], "group"),
        (&["vm/"], "group"),
        (&[""], "group"),
        (&["other"], "group"),
    ];
    for (names, expected) in cases {
        for place in [Place::Class, Place::Claim] {
            assert_eq!(vfio(&[(place, names, fd())]), *expected, "{names:?} in a {place}");
        }
    }
}

#[test]
fn an_entry_is_for_the_devices_that_its_kind_fits() {
    let devices = [("gpu", GPU), ("mig", PARTITION), ("vm", VFIO), ("any", GPU), ("any", VFIO)];
    let fd = || config("VfioDeviceConfig", json!({"backendPolicy": "PreferIommuFD"}));
    let cases: &[(&[Said<'_>], [&str; 5])] = &[
        (&[], ["gpu", "partition", "group", "gpu", "group"]),
        (&[(Place::Claim, &[], fd())], ["gpu", "partition", "fd", "gpu", "fd"]),
        (&[(Place::Claim, &["vm"], fd())], ["gpu", "partition", "fd", "gpu", "group"]),
        (&[(Place::Claim, &["any"], fd())], ["gpu", "partition", "group", "gpu", "fd"]),
        // The scheduler names the requests of a class, so the class cannot be wrong about them.
        (&[(Place::Class, &["gpu", "any"], fd())], ["gpu", "partition", "group", "gpu", "fd"]),
        (
            &[
                (Place::Class, &[], config("GpuConfig", Value::Null)),
                (Place::Claim, &["mig"], config("MigDeviceConfig", Value::Null)),
            ],
            ["gpu", "partition", "group", "gpu", "group"],
        ),
    ];
    for (entries, expected) in cases {
        let found: Vec<_> = resolved(entries, &devices).unwrap().iter().map(shown).collect();
        assert_eq!(found, *expected, "{entries:?}");
    }
    assert_eq!(resolved(&[(Place::Claim, &[], fd())], &[]), Ok(vec![]));
}

#[test]
fn an_entry_that_cannot_hold_is_refused_with_its_place() {
    let devices = [("gpu", GPU), ("mig/small", PARTITION), ("vm", VFIO), ("tpus", TPU)];
    let api = || config("VfioDeviceConfig", json!({"enableAPIDevice": true}));
    let plain = |kind: &str| config(kind, Value::Null);
    let long = "r".repeat(300);
    let cases: &[Said<'_>] = &[
        (Place::Claim, &["gpu"], plain("VfioDeviceConfig")),
        (Place::Claim, &["vm", "gpu"], plain("VfioDeviceConfig")),
        (Place::Claim, &["vm"], plain("GpuConfig")),
        (Place::Claim, &["mig"], plain("GpuConfig")),
        (Place::Claim, &["mig/small"], plain("VfioDeviceConfig")),
        (Place::Claim, &["gpu"], plain("MigDeviceConfig")),
        (Place::Claim, &["tpus"], plain("GpuConfig")),
        (Place::Claim, &["gpu"], tpu_config(Value::Null)),
        (Place::Claim, &["tpus", "mig"], tpu_config(json!({"level": 2}))),
        (Place::Claim, &["vm"], tpu_config(Value::Null)),
        (Place::Claim, &["tpus"], tpu_config(json!({"level": 7}))),
        (Place::Claim, &[], api()),
        (Place::Claim, &[], json!({"apiVersion": "v1"})),
        (Place::Class, &[], json!([])),
        (Place::Class, &["gpu"], plain("ComputeDomainDaemonConfig")),
    ];
    let mut texts: Vec<_> =
        cases.iter().map(|case| resolved(std::slice::from_ref(case), &devices).unwrap_err().to_string()).collect();
    let requests = [long.clone()];
    let parameters = plain("VfioDeviceConfig");
    let entry = Entry { place: Place::Claim, requests: &requests, parameters: &parameters };
    texts.push(resolve(&[entry], &[Device { request: &long, device_type: GPU }]).unwrap_err().to_string());
    assert!(texts.iter().all(|text| text.len() < 200), "{texts:#?}");
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn levels_of_logging_are_said_by_class_and_claim_one_by_one() {
    use Place::{Claim, Class};
    let level = |level: u8| tpu_config(json!({"level": level}));
    let stderr = |level: u8| tpu_config(json!({"stderrLevel": level}));
    let cases: &[(&[Said<'_>], &str)] = &[
        (&[], "tpu "),
        (&[(Claim, &["tpus"], tpu_config(Value::Null))], "tpu "),
        (&[(Claim, &["tpus"], level(2))], "tpu TPU_MIN_LOG_LEVEL=2 TPU_STDERR_LOG_LEVEL=2"),
        (&[(Class, &["tpus"], level(0))], "tpu TPU_MIN_LOG_LEVEL=0 TPU_STDERR_LOG_LEVEL=0"),
        (&[(Class, &["tpus"], level(1)), (Claim, &[], level(3))], "tpu TPU_MIN_LOG_LEVEL=3 TPU_STDERR_LOG_LEVEL=3"),
        // Whatever the order in the list.
        (&[(Claim, &[], level(3)), (Class, &["tpus"], level(1))], "tpu TPU_MIN_LOG_LEVEL=3 TPU_STDERR_LOG_LEVEL=3"),
        // What is left unsaid stays, and only then stderr follows the level.
        (&[(Class, &["tpus"], stderr(3)), (Claim, &[], level(1))], "tpu TPU_MIN_LOG_LEVEL=1 TPU_STDERR_LOG_LEVEL=3"),
        (&[(Class, &["tpus"], level(1)), (Claim, &[], stderr(3))], "tpu TPU_MIN_LOG_LEVEL=1 TPU_STDERR_LOG_LEVEL=3"),
        (&[(Claim, &[], stderr(3))], "tpu TPU_STDERR_LOG_LEVEL=3"),
        (&[(Claim, &[], level(1)), (Claim, &["tpus"], level(2))], "tpu TPU_MIN_LOG_LEVEL=2 TPU_STDERR_LOG_LEVEL=2"),
        // Not for it.
        (&[(Claim, &["others"], level(2))], "tpu "),
        (&[(Claim, &[], config("GpuConfig", Value::Null))], "tpu "),
    ];
    for (entries, expected) in cases {
        let configs = resolved(entries, &[("tpus", TPU), ("tpus", TPU)]).unwrap();
        assert_eq!(configs.iter().map(shown).collect::<Vec<_>>(), [*expected; 2], "{entries:?}");
    }
}

#[test]
fn tpus_of_which_different_things_are_said_are_refused_in_one_claim() {
    use Place::{Claim, Class};
    let level = |level: u8| tpu_config(json!({"level": level}));
    let stderr = |level: u8| tpu_config(json!({"stderrLevel": level}));
    let good: &[&[Said<'_>]] = &[
        &[(Claim, &["a"], level(2))],
        &[(Claim, &["a"], level(2)), (Claim, &["b"], level(2))],
        &[(Claim, &["a"], level(2)), (Claim, &["b"], stderr(2))],
        &[(Claim, &["a"], level(2)), (Claim, &["b"], tpu_config(json!({})))],
        // What the classes say differently, the claim says for both.
        &[(Class, &["a"], level(1)), (Class, &["b"], level(2)), (Claim, &[], level(3))],
        &[(Claim, &["a"], level(1)), (Claim, &["b"], level(2)), (Claim, &[], level(3))],
        // Not chosen, or not here.
        &[(Claim, &["a"], level(2)), (Claim, &["c"], level(1))],
    ];
    for entries in good {
        assert!(resolved(entries, &[("a", TPU), ("b/large", TPU)]).is_ok(), "{entries:?}");
    }
    let bad: &[&[Said<'_>]] = &[
        &[(Claim, &["a"], level(2)), (Claim, &["b"], level(1))],
        &[(Claim, &["b/large"], level(0)), (Claim, &[], stderr(1)), (Claim, &["a"], level(3))],
        &[(Claim, &["a"], level(2)), (Claim, &["b"], stderr(1))],
        &[(Class, &["a"], level(2)), (Claim, &["b"], level(1))],
        &[(Class, &["a"], level(2)), (Class, &["b"], level(1))],
    ];
    let refused = |entries: &&[Said<'_>]| resolved(entries, &[("a", TPU), ("b/large", TPU)]).unwrap_err().to_string();
    let mut texts: Vec<_> = bad.iter().map(refused).collect();
    let long = ["a", "b"].map(|first| first.repeat(63) + "/" + &"c".repeat(63));
    let said = [stderr(0), stderr(3)];
    let entry = |(name, parameters)| Entry { place: Class, requests: std::slice::from_ref(name), parameters };
    let entries: Vec<_> = long.iter().zip(&said).map(entry).collect();
    let devices = [&long[0], &long[1]].map(|request| Device { request, device_type: TPU });
    texts.push(resolve(&entries, &devices).unwrap_err().to_string());
    assert!(texts.iter().all(|text| text.len() < 198), "with the claim's name they fit an event: {texts:#?}");
    insta::assert_snapshot!(texts.join("\n"));
}

/// Where `firstAvailable` chose the other vendor's, the entries for it are the other driver's.
#[test]
fn of_several_vendors_each_has_its_own() {
    let choice = [
        (Place::Claim, &["any/gpu"][..], config("GpuConfig", json!({"iommu": 1}))),
        (Place::Claim, &["any/tpu"], tpu_config(json!({"level": 1}))),
    ];
    let found = resolved(&choice, &[("any/tpu", TPU)]).unwrap();
    assert_eq!(shown(&found[0]), "tpu TPU_MIN_LOG_LEVEL=1 TPU_STDERR_LOG_LEVEL=1");
    let for_all = [
        (Place::Claim, &[][..], config("GpuConfig", Value::Null)),
        (Place::Claim, &[], tpu_config(json!({"level": 1}))),
    ];
    let found: Vec<_> = resolved(&for_all, &[("g", GPU), ("t", TPU)]).unwrap().iter().map(shown).collect();
    assert_eq!(found, ["gpu", "tpu TPU_MIN_LOG_LEVEL=1 TPU_STDERR_LOG_LEVEL=1"]);
}

/// Each request has a class of its own, and what one class gives is not for the devices of another.
#[test]
fn what_gives_away_the_node_is_had_of_ones_own_class_alone() {
    let devices = [("launcher", VFIO), ("other", VFIO)];
    let api = || config("VfioDeviceConfig", json!({"enableAPIDevice": true}));
    let class: Said<'_> = (Place::Class, &["launcher"], api());
    let refused = |claim: &[&str]| resolved(&[class.clone(), (Place::Claim, claim, api())], &devices).is_err();
    assert!(!refused(&["launcher"]));
    assert!(refused(&["other"]) && refused(&[]));
}

#[test]
fn an_entry_for_devices_of_others_is_passed_over() {
    let entries: &[Said<'_>] = &[(Place::Claim, &["nic", "vm/small"], json!("not for us"))];
    assert_eq!(vfio(entries), "group");
}
