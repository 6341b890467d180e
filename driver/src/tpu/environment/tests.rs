use super::*;
use crate::tpu::{Reach, Slice, Worker};

/// The chips of a host, as they are known to it.
fn host(generation: Generation, count: u32, slice: &Slice) -> Vec<Chip> {
    let chip = |index| Chip {
        generation,
        reach: Reach::Vfio(10 + index),
        index,
        uuid: String::new(),
        chip_count: count,
        host: HostBlock::new(count as usize, None),
        slice: slice.clone(),
        product_name: String::new(),
    };
    (0..count).map(chip).collect()
}

fn of(host: &[Chip], indexes: &[usize]) -> Vec<String> {
    environment(&indexes.iter().map(|index| &host[*index]).collect::<Vec<_>>())
}

fn slice(topology: &str) -> Slice {
    Slice { topology: topology.parse().ok(), ..Slice::default() }
}

#[test]
fn parts_of_a_host() {
    let eight = host(Generation::V5e, 8, &slice("2x4"));
    let four = host(Generation::V4, 4, &Slice::default());
    let seven = host(Generation::V5e, 7, &Slice::default());
    for (host, chips, visible, bounds, port) in [
        (&eight, &[3][..], "3", Some("1,1,1"), 8489),
        (&eight, &[7, 4, 6, 5], "4,5,6,7", Some("2,2,1"), 8490),
        (&four, &[0, 1], "0,1", Some("1,2,1"), 8486),
        (&four, &[2, 3], "2,3", Some("1,2,1"), 8488),
        (&four, &[1, 2], "1,2", None, 8487),
        (&seven, &[6], "6", Some("1,1,1"), 8492),
        (&seven, &[0, 1], "0,1", None, 8486),
    ] {
        let mut expected = vec![
            "TPU_SKIP_MDS_QUERY=true".to_owned(),
            format!("TPU_VISIBLE_CHIPS={visible}"),
            "TPU_WORKER_ID=0".to_owned(),
            "TPU_WORKER_HOSTNAMES=localhost".to_owned(),
        ];
        if let Some(bounds) = bounds {
            expected.push(format!("TPU_CHIPS_PER_PROCESS_BOUNDS={bounds}"));
            expected.push("TPU_PROCESS_BOUNDS=1,1,1".to_owned());
        }
        expected.push(format!("TPU_PROCESS_PORT={port}"));
        expected.push(format!("TPU_PROCESS_ADDRESSES=localhost:{port}"));
        expected.push("CLOUD_TPU_TASK_ID=0".to_owned());
        assert_eq!(of(host, chips), expected, "{chips:?}");
    }
}

#[test]
fn a_whole_host_that_is_a_slice() {
    let eight = host(Generation::V5e, 8, &slice("2x4"));
    insta::assert_snapshot!(of(&eight, &[0, 1, 2, 3, 4, 5, 6, 7]).join("\n"));
}

#[test]
fn a_worker_of_a_slice() {
    let names = ["a-0", "a-1", "a-2", "a-3"].map(str::to_owned).to_vec();
    let worker = Worker { id: Some(2), hostnames: names };
    let told = Slice { ici_resiliency: Some(true), worker, ..slice("4x4x1") };
    insta::assert_snapshot!(of(&host(Generation::V4, 4, &told), &[0, 1, 2, 3]).join("\n"));
}

#[test]
fn who_is_which_worker_is_said_only_if_told() {
    let four = host(Generation::V5p, 4, &slice("2x2x2"));
    let environment = of(&four, &[0, 1, 2, 3]);
    assert!(environment.contains(&"TPU_HOST_BOUNDS=1,1,2".to_owned()), "{environment:?}");
    assert!(!environment.iter().any(|line| line.starts_with("TPU_WORKER_")), "{environment:?}");
}

#[test]
fn of_an_unknown_slice_libtpu_asks_the_instance() {
    let one = host(Generation::V5e, 1, &Slice::default());
    assert_eq!(of(&one, &[0]), ["TPU_CHIPS_PER_HOST_BOUNDS=1,1,1", "CHIPS_PER_HOST_BOUNDS=1,1,1"]);
}

#[test]
fn what_is_ringed() {
    for (generation, topology, expected) in [
        (Generation::V4, "4x4x4", "true,true,true"),
        (Generation::V5p, "2x4x4", "false,false,false"),
        (Generation::V7x, "4x4x8", "true,true,true"),
        (Generation::V3, "4x4", "true,true,true"),
        (Generation::V5e, "16x16", "true,true,false"),
        (Generation::V6e, "8x16", "false,true,false"),
        (Generation::V5e, "4x4", "false,false,false"),
    ] {
        assert_eq!(rings(generation, &topology.parse().unwrap()), expected, "{generation} {topology}");
    }
}

#[test]
fn no_two_claims_of_a_host_have_one_port() {
    let eight = host(Generation::V6e, 8, &Slice::default());
    let port = |chips: &[usize]| of(&eight, chips).into_iter().find(|line| line.starts_with("TPU_PROCESS_PORT"));
    let ports: Vec<_> = [&[0, 1, 2, 3][..], &[4], &[5], &[6, 7]].map(port).into_iter().collect();
    let distinct: std::collections::BTreeSet<_> = ports.iter().collect();
    assert_eq!(distinct.len(), 4, "{ports:?}");
}
