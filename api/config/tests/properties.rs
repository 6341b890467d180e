//! What holds for any config that anybody could write.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Map, Number, Value, json};
use tessera_config::{Device, DeviceConfig, DeviceType, Entry, Place, Problem, check, resolve};

/// The words that configs are made of, so that the wrong one often stands in the right place.
const WORDS: &[&str] = &[
    "apiVersion",
    "kind",
    "resource.nvidia.com/v1beta1",
    "GpuConfig",
    "MigDeviceConfig",
    "VfioDeviceConfig",
    "iommu",
    "backendPolicy",
    "LegacyOnly",
    "PreferIommuFD",
    "enableAPIDevice",
    "sharing",
    "strategy",
    "TimeSlicing",
    "MPS",
    "timeSlicingConfig",
    "mpsConfig",
    "tpu.resource.google.com/v1alpha1",
    "TpuConfig",
    "logging",
    "level",
    "stderrLevel",
];

fn word() -> impl Strategy<Value = String> {
    prop_oneof![4 => prop::sample::select(WORDS).prop_map(str::to_owned), 1 => ".{0,20}", 1 => "\\PC{0,2500}|[\\x00-\\x1f\u{202e}]{50}"]
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| Number::from_f64(number).map_or(Value::Null, Value::Number)),
        word().prop_map(Value::String),
    ];
    leaf.prop_recursive(8, 64, 8, |inside| {
        prop_oneof![
            prop::collection::vec(inside.clone(), 0..8).prop_map(Value::Array),
            prop::collection::vec((word(), inside), 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Any JSON, or a config of a known kind with any JSON in one or two of its places.
fn parameters() -> impl Strategy<Value = Value> {
    let kind = prop::sample::select(&["GpuConfig", "MigDeviceConfig", "VfioDeviceConfig", "TpuConfig"][..]);
    let path = prop::sample::select(
        &[
            "/kind",
            "/iommu",
            "/iommu/backendPolicy",
            "/iommu/enableAPIDevice",
            "/sharing",
            "/sharing/strategy",
            "/logging",
            "/logging/level",
            "/logging/stderrLevel",
        ][..],
    );
    let spoilt =
        (kind, prop::collection::vec((path, json_value()), 0..3), any::<bool>()).prop_map(|(kind, wrong, whole)| {
            let mut config = if kind == "TpuConfig" { tpu_config(json!({"level": 2})) } else { nvidia_config(kind) };
            if whole && kind != "TpuConfig" {
                config["iommu"] = json!({"backendPolicy": "PreferIommuFD", "enableAPIDevice": false});
                config["sharing"] = json!({"strategy": "MPS"});
            }
            for (path, value) in wrong {
                if let Some(place) = config.pointer_mut(path) {
                    *place = value;
                }
            }
            config
        });
    prop_oneof![json_value(), spoilt, good(true)]
}

fn nvidia_config(kind: &str) -> Value {
    json!({"apiVersion": "resource.nvidia.com/v1beta1", "kind": kind})
}

fn tpu_config(logging: Value) -> Value {
    json!({"apiVersion": "tpu.resource.google.com/v1alpha1", "kind": "TpuConfig", "logging": logging})
}

fn logging() -> impl Strategy<Value = Value> {
    let level = || prop::option::of(0..4);
    (level(), level()).prop_map(|(level, stderr)| json!({"level": level, "stderrLevel": stderr}))
}

/// A config that is right, in a class at least.
fn good(in_class: bool) -> impl Strategy<Value = Value> {
    let policy = prop::option::of(prop::sample::select(&["LegacyOnly", "PreferIommuFD"][..]));
    let api = prop::option::of(any::<bool>()).prop_map(move |api| api.filter(|api| in_class || !api));
    prop_oneof![
        Just(nvidia_config("GpuConfig")),
        Just(nvidia_config("MigDeviceConfig")),
        logging().prop_map(tpu_config),
        (policy, api).prop_map(move |(policy, api)| {
            let mut config = nvidia_config("VfioDeviceConfig");
            config["iommu"] = json!({"backendPolicy": policy, "enableAPIDevice": api});
            config
        }),
    ]
}

type Said = (Place, Vec<String>, Value);

/// Entries of which none can be refused: those of claims name no requests, and all that name levels of logging name the same.
fn good_entries() -> impl Strategy<Value = Vec<Said>> {
    let names = || prop::collection::vec(prop::sample::select(REQUESTS).prop_map(str::to_owned), 0..3);
    let class = (names(), good(true)).prop_map(|(names, config)| (Place::Class, names, config));
    let claim = good(false).prop_map(|config| (Place::Claim, vec![], config));
    let all = prop::collection::vec(prop_oneof![class, claim], 0..8);
    (all, logging()).prop_map(|(mut all, logging)| {
        for (.., config) in &mut all {
            if let Some(own) = config.get_mut("logging") {
                *own = logging.clone();
            }
        }
        all
    })
}

/// The same, but that classes say different things of logging.
fn entries_about_tpus() -> impl Strategy<Value = Vec<Said>> {
    let names = prop::collection::vec(prop::sample::select(REQUESTS).prop_map(str::to_owned), 0..3);
    let class = (names, logging()).prop_map(|(names, logging)| (Place::Class, names, tpu_config(logging)));
    let claim = logging().prop_map(|logging| (Place::Claim, vec![], tpu_config(logging)));
    prop::collection::vec(prop_oneof![4 => class, 1 => claim], 0..4)
}

const REQUESTS: &[&str] = &["a", "b", "b/large", "c"];

fn devices() -> impl Strategy<Value = Vec<Device<'static>>> {
    let device_type =
        prop::sample::select(&[DeviceType::Gpu, DeviceType::Tpu, DeviceType::Partition, DeviceType::Passthrough][..]);
    let device = (prop::sample::select(REQUESTS), device_type)
        .prop_map(|(request, device_type)| Device { request, device_type });
    prop::collection::vec(device, 0..6)
}

fn entries(said: &[Said]) -> Vec<Entry<'_>> {
    said.iter().map(|(place, requests, parameters)| Entry { place: *place, requests, parameters }).collect()
}

fn type_of(config: &DeviceConfig) -> DeviceType {
    match config {
        DeviceConfig::Gpu(_) => DeviceType::Gpu,
        DeviceConfig::Tpu(_) => DeviceType::Tpu,
        DeviceConfig::Partition(_) => DeviceType::Partition,
        DeviceConfig::Passthrough(_) => DeviceType::Passthrough,
    }
}

fn has_api_device(config: &DeviceConfig) -> bool {
    matches!(config, DeviceConfig::Passthrough(vfio) if vfio.iommu.enable_api_device)
}

proptest! {
    #[test]
    fn any_json_is_judged_with_a_text_that_fits_an_event(parameters in parameters()) {
        let judged = [Place::Class, Place::Claim].map(|place| check(&parameters, place));
        for error in judged.iter().filter_map(|judged| judged.as_ref().err()) {
            let text = error.to_string();
            prop_assert!(text.len() < 200, "{} bytes: {text}", text.len());
            prop_assert!(!text.chars().any(char::is_control), "{text:?}");
        }
        let [class, claim] = judged;
        prop_assert!(class.is_ok() || claim.is_err(), "a claim may say what a class may not");
    }

    #[test]
    fn ten_kibibytes_of_anything_are_judged(garbage in prop::collection::vec(any::<u8>(), 0..10_240)) {
        let text = String::from_utf8_lossy(&garbage);
        let parameters = serde_json::from_slice(&garbage).unwrap_or_else(|_| json!({"apiVersion": text, text.clone(): text}));
        prop_assert!(check(&parameters, Place::Claim).unwrap_err().to_string().len() < 200);
    }

    #[test]
    fn what_was_admitted_everywhere_resolves_unless_a_claim_names_wrongly(
        said in prop::collection::vec((any::<bool>(), parameters()), 0..6), devices in devices(),
    ) {
        let said: Vec<Said> = said
            .into_iter()
            .map(|(class, parameters)| (if class { Place::Class } else { Place::Claim }, vec![], parameters))
            .collect();
        let admitted = said.iter().all(|(place, _, parameters)| check(parameters, *place).is_ok());
        let resolved = resolve(&entries(&said), &devices);
        // What only a class can give shows here alone.
        let for_class_alone = resolved.as_ref().is_err_and(|error| matches!(error.problem, Problem::ForClassAlone { .. }));
        prop_assert_eq!(resolved.is_ok(), (admitted && !for_class_alone) || devices.is_empty());
    }

    #[test]
    fn every_device_gets_what_is_of_its_type(said in good_entries(), devices in devices()) {
        let configs = resolve(&entries(&said), &devices).unwrap();
        let types: Vec<_> = configs.iter().map(type_of).collect();
        prop_assert_eq!(types, devices.iter().map(|device| device.device_type).collect::<Vec<_>>());
    }

    #[test]
    fn what_a_device_gets_does_not_depend_on_the_others(said in good_entries(), devices in devices()) {
        let entries = entries(&said);
        let together = resolve(&entries, &devices).unwrap();
        for (device, config) in devices.iter().zip(together) {
            prop_assert_eq!(resolve(&entries, &[*device]).unwrap(), vec![config]);
        }
    }

    #[test]
    fn no_container_is_told_two_things(said in entries_about_tpus(), devices in devices()) {
        let entries = entries(&said);
        let mut told: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for device in &devices {
            for variable in resolve(&entries, &[*device]).unwrap().iter().flat_map(DeviceConfig::environment) {
                told.entry(variable.name).or_default().insert(variable.value);
            }
        }
        let one_thing = told.values().all(|values| values.len() == 1);
        match resolve(&entries, &devices) {
            Ok(_) => prop_assert!(one_thing, "{told:?}"),
            Err(error) => {
                prop_assert!(!one_thing, "{error}");
                let blamed_rightly = matches!(error.problem, Problem::Disagreement(_));
                prop_assert!(blamed_rightly, "{error}");
            }
        }
    }

    #[test]
    fn repeated_entries_and_the_place_of_a_claims_entries_change_nothing(said in good_entries(), devices in devices()) {
        let plain = resolve(&entries(&said), &devices).unwrap();
        let repeated: Vec<_> = said.iter().flat_map(|said| [said.clone(), said.clone()]).collect();
        prop_assert_eq!(&resolve(&entries(&repeated), &devices).unwrap(), &plain);
        let (class, mut moved): (Vec<_>, Vec<_>) = said.into_iter().partition(|(place, ..)| *place == Place::Class);
        moved.extend(class);
        prop_assert_eq!(resolve(&entries(&moved), &devices).unwrap(), plain);
    }

    #[test]
    fn no_claim_gets_the_api_device_out_of_a_class_that_does_not_give_it(
        said in prop::collection::vec(parameters(), 0..6), devices in devices(),
    ) {
        let said: Vec<Said> = said.into_iter().map(|parameters| (Place::Claim, vec![], parameters)).collect();
        if let Ok(configs) = resolve(&entries(&said), &devices) {
            prop_assert!(!configs.iter().any(has_api_device));
        }
    }
}
