//! How claims choose among partitions.

use std::collections::BTreeSet;

use e2e::{Team, claim, container, has_taints_and_more, kubernetes, pod};
use serde_json::{Value, json};

use crate::ground::{
    A100, H100, ON_DEMAND, cuttable, cutting, devices, hardware, has_counters, named, nothing_left, on, partition, spec,
};

/// A pod with one claim, of which its one container names a request.
fn pod_of_request(name: &str, request: &str) -> Value {
    let mut main = container("main", &["claim"], &["devices"]);
    main["resources"]["claims"][0]["request"] = json!(request);
    pod(name, &[json!({"name": "claim", "resourceClaimName": name})], &[main])
}

#[test]
fn cel_chooses_by_profile_memory_and_engines_and_gets_the_least() {
    if !has_counters() {
        return;
    }
    let node = cutting("cel");
    let team = Team::new(&node, "cel");
    for (name, cel, device) in [
        // The place that spoils the fewest others.
        ("profile", "device.attributes['gpu.nvidia.com'].profile == '1g.10gb+me'", named(&H100, "1g10gb-me-20-6")),
        (
            "memory",
            "device.capacity['gpu.nvidia.com'].memory.compareTo(quantity('60Gi')) >= 0",
            named(&H100, "7g80gb-0-0"),
        ),
        // 4g has as much memory, but computes with more.
        (
            "portable",
            "device.attributes['tessera.dev'].kind == 'partition' && device.capacity['tessera.dev'].memory.isGreaterThan(quantity('15Gi'))",
            named(&A100, "3g20gb-9-4"),
        ),
        (
            "engines",
            "device.capacity['gpu.nvidia.com'].ofaEngines.compareTo(quantity('1')) >= 0",
            named(&A100, "1g5gb-me-20-6"),
        ),
    ] {
        team.start(name, &spec(&[partition("mig", &[cel])]), &["devices"]);
        team.wait_running(name);
        assert_eq!(team.devices_of(name), [device], "{name}");
        team.clear();
    }
    nothing_left(&node);
}

#[test]
fn alternatives_and_partitions_of_one_gpu() {
    if !has_counters() {
        return;
    }
    let node = cuttable("alternatives");
    // What an admin has given to somebody else leaves the A100 room for one large partition and a small one.
    hardware(&node, "mig 0 create 2g.10gb@0");
    e2e::start_agent(&node, ON_DEMAND);
    let team = Team::new(&node, "alternatives");

    let choice = |name: &str, profile: &str| {
        let cel = [on(&A100), format!("device.attributes['gpu.nvidia.com'].profile.startsWith('{profile}')")];
        // Not the one that is there already.
        let start = "!has(device.attributes['gpu.nvidia.com'].uuid)".to_owned();
        let selectors: Vec<_> = cel.into_iter().chain([start]).map(|one| json!({"cel": {"expression": one}})).collect();
        json!({"name": name, "deviceClassName": "mig.nvidia.com", "selectors": selectors})
    };
    let wanted = spec(&[json!({"name": "mig", "firstAvailable": [choice("large", "3g."), choice("small", "2g.")]})]);
    for (name, chosen) in [("first", "mig/large"), ("second", "mig/small")] {
        team.apply(&[claim(name, &wanted), pod_of_request(name, "mig")]);
        team.wait_running(name);
        let results = &team.get("resourceclaim", name)["status"]["allocation"]["devices"]["results"];
        assert_eq!(results[0]["request"], chosen);
    }
    team.clear();

    // First fit would take one of either GPU.
    let large = "device.attributes['gpu.nvidia.com'].profile.startsWith('3g.')";
    let mut pair = spec(&[partition("a", &[large]), partition("b", &[large])]);
    team.start("any", &pair, &["devices"]);
    team.wait_running("any");
    assert_eq!(team.gpus_seen("any", "main").len(), 2);
    team.clear();
    pair["devices"]["constraints"] = json!([{"requests": ["a", "b"], "matchAttribute": "gpu.nvidia.com/parentUUID"}]);
    team.start("together", &pair, &["devices"]);
    team.wait_running("together");
    assert_eq!(team.gpus_seen("together", "main"), BTreeSet::from(["/dev/nvidia1".to_owned()]));
    assert_eq!(team.capabilities_seen("together", "main").len(), 4);
}

#[test]
fn manifests_written_for_nvidias_driver_work_unchanged() {
    if !has_counters() {
        return;
    }
    let node = cutting("nvidias");
    let team = Team::new(&node, "nvidias");
    team.apply_yaml(include_str!("../manifests/nvidia-style-mig-mix.yaml"));
    team.wait_running("mixed");
    // After it, since the mix needs a GPU of its own.
    team.apply_yaml(include_str!("../manifests/nvidia-style-mig-any.yaml"));
    team.wait_running("any");
    let seen = ["ctr0", "ctr1", "ctr2", "ctr3"].map(|container| {
        assert_eq!(team.gpus_seen("mixed", container).len(), 1);
        let capabilities = team.capabilities_seen("mixed", container);
        assert_eq!(capabilities.len(), 2, "{container} sees its own partition alone");
        capabilities
    });
    assert_eq!(seen.iter().flatten().collect::<BTreeSet<_>>().len(), 8, "{seen:?}");
    assert_eq!(team.capabilities_seen("any", "ctr").len(), 2);
}

#[test]
fn a_profile_is_an_extended_resource_by_a_class_of_its_own() {
    if !has_taints_and_more() {
        return eprintln!("Kubernetes {} has no extended resources by DRA", kubernetes());
    }
    let node = cutting("extended");
    let team = Team::new(&node, "extended");
    let cel = "device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == 'mig' && \
               device.attributes['gpu.nvidia.com'].profile == '1g.10gb'";
    let class = json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": "mig-1g.10gb.nvidia.com"},
        "spec": {"selectors": [{"cel": {"expression": cel}}], "extendedResourceName": "nvidia.com/mig-1g.10gb"},
    });
    node.cluster().apply(&class.to_string()).unwrap();
    let classic = |name: &str| {
        let mut main = container("main", &[], &["devices"]);
        main["resources"] = json!({"limits": {"nvidia.com/mig-1g.10gb": "1"}});
        pod(name, &[], &[main])
    };
    // Both GPUs have a profile of that name: 4 places on the A100 and 7 on the H100.
    let names: Vec<_> = (0..11).map(|number| format!("classic-{number}")).collect();
    team.apply(&names.iter().map(|name| classic(name)).collect::<Vec<_>>());
    for name in &names {
        team.wait_running(name);
        assert_eq!(team.capabilities_seen(name, "main").len(), 2);
    }
    team.apply(&[classic("more")]);
    team.wait_event("more", &["0/1 nodes are available"]);
    team.delete_pod("classic-0");
    team.wait_running("more");
    team.clear();
    nothing_left(&node);
    assert_eq!(devices(&node).len(), 25 + 26);
}
