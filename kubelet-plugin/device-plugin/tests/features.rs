//! The labels of every simulated machine that has GPUs, found as on a node.
//!
//! Needs `cargo build -p fake-nvml` before.

// Also in helpers of tests, which clippy.toml does not reach.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use simulated_hardware::{Machine, Profile};
use tessera_core::{Inventory, Ledger};
use tessera_device_plugin::{Config, FeatureLabels, features};
use tessera_driver::nvidia::{Nvidia, Session};
use tessera_driver::{Backend, Root};

/// The labels of a machine on which an admin has run these commands.
fn labels(profile: &str, commands: &[&str], config: &str) -> FeatureLabels {
    let directory = tempfile::tempdir().unwrap();
    let library = simulated_hardware::library().expect("cargo build -p fake-nvml");
    let machine = Machine::create(directory.path(), &Profile::named(profile).unwrap(), &library).unwrap();
    for command in commands {
        machine.run(&command.split(' ').collect::<Vec<_>>()).unwrap_or_else(|error| panic!("{command}: {error}"));
    }
    let root = Root::new(machine.root(), "/");
    let found = Nvidia::new(root.clone(), Session::new(root.clone())).discover().unwrap();
    assert_eq!(found.problems, Vec::<String>::new());
    let inventory = Inventory::default().after(&found, &BTreeSet::new());
    let product = std::fs::read_to_string(root.seen_by_agent("/sys/class/dmi/id/product_name")).ok();
    features(product.as_deref(), &inventory, &Ledger::default(), &Config::parse(config).unwrap()).unwrap()
}

fn listing(labels: &FeatureLabels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}\n")).collect()
}

#[test]
fn labels_of_every_machine() {
    let mut text = String::new();
    for profile in Profile::names_with_gpus() {
        let labels = labels(profile, &[], "");
        writeln!(text, "--- {profile}\n{}", listing(&labels)).unwrap();
        for (key, value) in &labels {
            // What the API server takes.
            let (_, name) = key.split_once('/').unwrap();
            let fits = |text: &str| {
                let end = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
                text.len() <= 63 && end(text.chars().next()) && end(text.chars().next_back())
            };
            assert!(fits(name) && fits(value), "{profile}: {key}={value}");
        }
    }
    insta::assert_snapshot!(text);
}

/// What there is besides, and instead, on machines that were cut.
#[test]
fn labels_of_machines_that_were_cut() {
    let seven: Vec<String> = (0..8)
        .flat_map(|gpu| {
            let parts = (0..7).map(move |_| format!("mig {gpu} create 1g.10gb"));
            std::iter::once(format!("mig {gpu} on")).chain(parts)
        })
        .collect();
    let seven: Vec<&str> = seven.iter().map(String::as_str).collect();
    let hopper = ["mig 1 on", "mig 1 create 3g.40gb", "mig 1 create 1g.10gb+me", "mig 1 create 1g.10gb"];
    let single = "flags: {migStrategy: single}";
    let mixed = "flags: {migStrategy: mixed}";
    let mut text = String::new();
    for (what, profile, commands, config) in [
        ("all alike, none", "dgx-h100", seven.as_slice(), ""),
        ("all alike, single", "dgx-h100", &seven, single),
        ("all alike, mixed", "dgx-h100", &seven, mixed),
        ("one of two, single", "a100-h100", &hopper, single),
        ("one of two, mixed", "a100-h100", &hopper, mixed),
    ] {
        let whole = labels(profile, &[], "");
        let labels = labels(profile, commands, config);
        let differs: BTreeMap<_, _> = labels.into_iter().filter(|(key, value)| whole.get(key) != Some(value)).collect();
        writeln!(text, "--- {profile}: {what}\n{}", listing(&differs)).unwrap();
    }
    insta::assert_snapshot!(text);
}
