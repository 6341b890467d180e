//! API servers that drop counters: overlapping partitions would be given away together.

use std::collections::BTreeSet;

use e2e::{Team, eventually, start_agent, without_features};

use crate::ground::{A100, H100, ON_DEMAND, hardware, named, partition, published, spec, switch_on, whole};

#[test]
fn without_counters_only_wholes_and_what_is_there_are_offered() {
    // Up to 1.35 it is off.
    let gates: &[&str] = if e2e::has_taints_and_more() { &["DRAPartitionableDevices"] } else { &[] };
    let node = without_features("projection", "a100-h100", gates);
    switch_on(&node);
    start_agent(&node, ON_DEMAND);
    let team = Team::new(&node, "projection");
    let offers = |of_a100: Option<&str>| {
        let wanted: BTreeSet<String> = of_a100.map(str::to_owned).into_iter().collect();
        eventually(&format!("{of_a100:?} of the A100 and the whole H100"), || {
            let is = published(&node, &H100) == BTreeSet::from([H100.name.to_owned()]);
            (is && published(&node, &A100) == wanted).then_some(())
        });
    };
    offers(None);
    let own = named(&A100, "3g20gb-9-4");
    hardware(&node, "mig 0 create 3g.20gb@4");
    offers(Some(&own));
    team.start("part", &spec(&[partition("mig", &[])]), &["devices"]);
    team.start("whole", &whole(&H100), &["devices"]);
    for pod in ["part", "whole"] {
        team.wait_running(pod);
    }
    assert_eq!((team.devices_of("part"), team.devices_of("whole")), (vec![own.clone()], vec![H100.name.to_owned()]));
    assert_eq!(team.capabilities_seen("part", "main").len(), 2);
    offers(Some(&own));
}
