use serde_json::json;

use super::*;

const V: &str = nvidia::API_VERSION;
const G: &str = google::API_VERSION;

/// What each place makes of some parameters: "good", or the reason.
fn judged(parameters: &Value, place: Place) -> String {
    match check(parameters, place) {
        Ok(_) => "good".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_means_something_or_nothing_is_taken_from_both() {
    let cases = [
        json!({"apiVersion": V, "kind": "GpuConfig"}),
        json!({"apiVersion": V, "kind": "GpuConfig", "sharing": null}),
        json!({"apiVersion": V, "kind": "MigDeviceConfig"}),
        json!({"apiVersion": V, "kind": "MigDeviceConfig", "sharing": null}),
        json!({"apiVersion": V, "kind": "VfioDeviceConfig"}),
        json!({"apiVersion": V, "kind": "VfioDeviceConfig", "iommu": null}),
        json!({"apiVersion": V, "kind": "VfioDeviceConfig", "iommu": {}}),
        json!({"apiVersion": V, "kind": "VfioDeviceConfig", "iommu": {"backendPolicy": null, "enableAPIDevice": null}}),
        json!({"apiVersion": V, "kind": "VfioDeviceConfig", "iommu": {"backendPolicy": "LegacyOnly"}}),
        json!({"apiVersion": V, "kind": "VfioDeviceConfig", "iommu": {"backendPolicy": "PreferIommuFD"}}),
        json!({"apiVersion": V, "kind": "VfioDeviceConfig", "iommu": {"enableAPIDevice": false}}),
        json!({"apiVersion": V, "kind": "VfioDeviceConfig", "iommu": {"enableAPIDevice": true}}),
        json!({"apiVersion": G, "kind": "TpuConfig"}),
        json!({"apiVersion": G, "kind": "TpuConfig", "logging": null}),
        json!({"apiVersion": G, "kind": "TpuConfig", "logging": {}}),
        json!({"apiVersion": G, "kind": "TpuConfig", "logging": {"level": null, "stderrLevel": null}}),
        json!({"apiVersion": G, "kind": "TpuConfig", "logging": {"level": 2}}),
        json!({"apiVersion": G, "kind": "TpuConfig", "logging": {"stderrLevel": 3}}),
        json!({"apiVersion": G, "kind": "TpuConfig", "logging": {"level": 0, "stderrLevel": 1}}),
    ];
    for parameters in cases {
        for place in [Place::Class, Place::Claim] {
            assert_eq!(judged(&parameters, place), "good", "{parameters} in a {place}");
        }
    }
}

#[test]
fn what_is_refused_is_told_with_its_path_and_what_is_allowed() {
    let long = "x".repeat(10_000);
    let gpu = |sharing: Value| json!({"apiVersion": V, "kind": "GpuConfig", "sharing": sharing});
    let mig = |sharing: Value| json!({"apiVersion": V, "kind": "MigDeviceConfig", "sharing": sharing});
    let vfio = |iommu: Value| json!({"apiVersion": V, "kind": "VfioDeviceConfig", "iommu": iommu});
    let tpu = |logging: Value| json!({"apiVersion": G, "kind": "TpuConfig", "logging": logging});
    let cases = [
        // No config at all.
        Value::Null,
        json!([]),
        json!("GpuConfig"),
        json!(-1.5e300),
        json!({}),
        // The kind.
        json!({"kind": "GpuConfig"}),
        json!({"apiVersion": null, "kind": "GpuConfig"}),
        json!({"apiVersion": 1, "kind": "GpuConfig"}),
        json!({"apiVersion": "resource.nvidia.com/v1alpha1", "kind": "GpuConfig"}),
        json!({"apiVersion": "gpu.nvidia.com/v1alpha1", "kind": "GpuConfig"}),
        json!({"apiVersion": "RESOURCE.nvidia.com/v1beta1", "kind": "GpuConfig"}),
        json!({"apiVersion": {V: null}, "kind": "GpuConfig"}),
        json!({"apiVersion": long, "kind": "GpuConfig"}),
        json!({"apiVersion": V}),
        json!({"apiVersion": V, "kind": ["GpuConfig"]}),
        json!({"apiVersion": V, "kind": "gpuConfig"}),
        json!({"apiVersion": V, "kind": "ComputeDomainChannelConfig", "domainID": "1"}),
        json!({"apiVersion": V, "kind": "\u{1b}[31mred\n"}),
        json!({"apiVersion": V, "kind": long}),
        // Each vendor's kinds under its own name.
        json!({"apiVersion": V, "kind": "TpuConfig"}),
        json!({"apiVersion": G, "kind": "GpuConfig"}),
        json!({"apiVersion": "tpu.resource.google.com/v1beta1", "kind": "TpuConfig"}),
        // Fields that there are not.
        json!({"apiVersion": V, "kind": "GpuConfig", "shared": {}}),
        json!({"apiVersion": V, "kind": "GpuConfig", "iommu": {}}),
        json!({"apiVersion": V, "kind": "GpuConfig", "metadata": null}),
        json!({"apiVersion": V, "kind": "MigDeviceConfig", "profile": "1g.10gb"}),
        json!({"apiVersion": V, "kind": "VfioDeviceConfig", "IOMMU": {}}),
        json!({"apiVersion": V, "kind": "VfioDeviceConfig", "sharing": {"strategy": "MPS"}}),
        json!({"apiVersion": V, "kind": "VfioDeviceConfig", &long: {}}),
        vfio(json!({"enableApiDevice": true})),
        vfio(json!({"": true})),
        vfio(json!({"backendPolicy.x\n": true})),
        vfio(json!({&long: true})),
        // Sharing.
        gpu(json!({"strategy": "TimeSlicing"})),
        gpu(json!({"strategy": "TimeSlicing", "timeSlicingConfig": {}})),
        gpu(json!({"strategy": "TimeSlicing", "timeSlicingConfig": {"interval": "Long"}})),
        gpu(json!({"strategy": "MPS", "mpsConfig": {"defaultActiveThreadPercentage": 50}})),
        mig(json!({"strategy": "TimeSlicing"})),
        mig(json!({"strategy": "MPS", "mpsConfig": {"multiUser": true}})),
        mig(json!({"strategy": "TimeSlicing", "timeSlicingConfig": {}})),
        gpu(json!({"strategy": "Exclusive"})),
        gpu(json!({"strategy": null})),
        gpu(json!({"strategy": {"MPS": null}})),
        gpu(json!({})),
        gpu(json!("MPS")),
        gpu(json!({"stratgy": "MPS"})),
        // VFIO.
        vfio(json!(["LegacyOnly", true])),
        vfio(json!("PreferIommuFD")),
        vfio(json!({"backendPolicy": "PreferIommuFd"})),
        vfio(json!({"backendPolicy": ""})),
        vfio(json!({"backendPolicy": {"LegacyOnly": null}})),
        vfio(json!({"backendPolicy": u64::MAX})),
        vfio(json!({"backendPolicy": long})),
        vfio(json!({"enableAPIDevice": "true"})),
        vfio(json!({"enableAPIDevice": 1})),
        vfio(json!({"enableAPIDevice": []})),
        // Logging.
        json!({"apiVersion": G, "kind": "TpuConfig", "sharing": {}}),
        json!({"apiVersion": G, "kind": "TpuConfig", "Logging": {"level": 2}}),
        tpu(json!(2)),
        tpu(json!([2])),
        tpu(json!({"minLevel": 2})),
        tpu(json!({"stderrlevel": 2})),
        tpu(json!({"level": 4})),
        tpu(json!({"level": -1})),
        tpu(json!({"level": 2.0})),
        tpu(json!({"level": u64::MAX})),
        tpu(json!({"level": "2"})),
        tpu(json!({"level": "ERROR"})),
        tpu(json!({"level": true})),
        tpu(json!({"level": 2, "stderrLevel": 4})),
        tpu(json!({"stderrLevel": {"level": 2}})),
    ];
    let texts: Vec<_> = cases.iter().map(|parameters| judged(parameters, Place::Class)).collect();
    for (parameters, text) in cases.iter().zip(&texts) {
        assert_ne!(text, "good", "{parameters}");
        assert!(text.len() < 200, "{} bytes: {text}", text.len());
        assert!(judged(parameters, Place::Claim).ends_with(text.split_once(':').unwrap().1), "{parameters}");
    }
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn a_deep_config_is_judged_like_a_flat_one() {
    let deep = (0..1_000).fold(Value::Null, |inside, _| json!([inside]));
    let text = judged(&json!({"apiVersion": V, "kind": "VfioDeviceConfig", "iommu": deep}), Place::Claim);
    assert_eq!(text, "VfioDeviceConfig in the claim: iommu is a list; allowed: an object");
}
