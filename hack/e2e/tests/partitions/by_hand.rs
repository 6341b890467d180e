//! Partitions that an admin makes: published, handed out, never touched.

use std::time::Instant;

use e2e::{Team, eventually, start_agent};
use simulated_node::SimulatedNode;

use crate::ground::{
    A100, ON_DEMAND, cuttable, devices, files, hardware, has_counters, instances, named, partition, published, spec,
};

/// What the slices say of a partition's UUID, if it is published.
fn uuid_of(node: &SimulatedNode, name: &str) -> Option<Option<String>> {
    let device = devices(node).into_iter().find(|device| device["name"] == name)?;
    Some(device["attributes"]["uuid"]["string"].as_str().map(str::to_owned))
}

/// Waits, and says how long that was; the agents of these tests look every half second.
#[track_caller]
fn soon<T>(what: &str, check: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    let value = eventually(what, check);
    eprintln!("{what}: after {} ms", begun.elapsed().as_millis());
    value
}

fn what_an_admin_made_is_handed_out_and_stays(name: &str, flags: &[&str]) {
    let node = cuttable(name);
    start_agent(&node, flags);
    let team = Team::new(&node, name);
    let own = named(&A100, "3g20gb-9-4");
    hardware(&node, "mig 0 create 3g.20gb@4");
    let uuid = soon("a partition that was made is published", || uuid_of(&node, &own).flatten());
    assert!(uuid.starts_with("MIG-"), "{uuid}");
    let (cut, offered) = (instances(&node, &A100), published(&node, &A100));

    // By its UUID, which only partitions that are there have, in both ways in which CEL can ask for it first.
    let attributes = "device.attributes['gpu.nvidia.com']";
    for (pod, asked) in [("has", format!("has({attributes}.uuid)")), ("in", format!("'uuid' in {attributes}"))] {
        let cel = format!("{asked} && {attributes}.uuid == '{uuid}'");
        team.start(pod, &spec(&[partition("mig", &[&cel])]), &["devices"]);
        team.wait_running(pod);
        assert_eq!(team.devices_of(pod), [own.as_str()]);
        assert_eq!(team.capabilities_seen(pod, "main").len(), 2);
        team.clear();
    }
    eventually("no file of the claim is left", || files(&node).is_empty().then_some(()));
    assert_eq!((instances(&node, &A100), published(&node, &A100)), (cut, offered));
    assert_eq!(uuid_of(&node, &own), Some(Some(uuid)), "the same, not one made anew");

    let id = node.machine().hardware().unwrap().gpus[A100.index].mig.gpu_instances[0].id;
    hardware(&node, &format!("mig 0 destroy {id}"));
    let gone = || (uuid_of(&node, &own).flatten().is_none()).then_some(());
    soon("a partition that was destroyed is not published any more", gone);
    assert!(instances(&node, &A100).is_empty());
}

#[test]
fn without_partitions_on_demand() {
    what_an_admin_made_is_handed_out_and_stays("by-hand", &[]);
}

#[test]
fn beside_partitions_on_demand() {
    if has_counters() {
        what_an_admin_made_is_handed_out_and_stays("by-hand-beside", ON_DEMAND);
    }
}
