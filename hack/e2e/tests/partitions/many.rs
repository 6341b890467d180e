//! Sixteen GPUs: more devices and counter sets than a slice takes.

use e2e::{Team, start_agent, without_agent};
use serde_json::Value;

use crate::ground::{ON_DEMAND, has_counters, partition, spec};

#[test]
fn sixteen_gpus_are_accepted_whole_and_in_parts() {
    if !has_counters() {
        return;
    }
    let node = without_agent("sixteen", "h100x16");
    start_agent(&node, ON_DEMAND);
    node.wait_for_devices(16 * 26, e2e::PATIENCE).unwrap();
    let slices = node.slices().unwrap();
    let count = |field: &str| -> Vec<usize> {
        slices.iter().map(|slice| slice["spec"][field].as_array().map_or(0, Vec::len)).collect()
    };
    let (devices, sets) = (count("devices"), count("sharedCounters"));
    let bytes: usize = slices.iter().map(|slice| slice.to_string().len()).sum();
    eprintln!("{} slices, {bytes} bytes; devices {devices:?}; counter sets {sets:?}", slices.len());
    // A set for the node and one for each GPU, eight a slice.
    assert_eq!((sets.iter().sum::<usize>(), slices.len()), (17, 3 + (16_usize * 26).div_ceil(64)));
    let generations: Vec<&Value> = slices.iter().map(|slice| &slice["spec"]["pool"]["generation"]).collect();
    assert!(generations.iter().all(|one| *one == generations[0]), "{generations:?}");

    let versions = || -> Vec<Value> {
        node.slices().unwrap().iter().map(|slice| slice["metadata"]["resourceVersion"].clone()).collect()
    };
    let before = versions();
    let team = Team::new(&node, "sixteen");
    let small = "device.attributes['gpu.nvidia.com'].profile == '1g.10gb'";
    team.start("small", &spec(&[partition("mig", &[small])]), &["devices"]);
    team.wait_running("small");
    assert_eq!(team.capabilities_seen("small", "main").len(), 2);
    // The wholes come from the other end.
    team.run_with_one_gpu("whole", &["devices"]);
    assert!(team.devices_of("small")[0].starts_with("gpu-0000-1b-00-0-mig-1g10gb-19-"));
    assert_eq!(team.devices_of("whole"), ["gpu-0001-df-00-0"]);
    team.clear();
    assert_eq!(versions(), before, "not a single write");
}
