//! The arrows of the house (ARCHITECTURE.md), held against what cargo says.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// For each crate of ours, those of ours that it may use. Tests may use hack/ besides.
const ARROWS: &[(&str, &[&str])] = &[
    ("tessera-vocabulary", &[]),
    ("tessera-config", &[]),
    ("tessera-kubelet-api", &[]),
    ("tessera-policy", &[]),
    ("tessera-admission", &["tessera-config", "tessera-policy", "tessera-vocabulary"]),
    ("tessera-controller", &["tessera-admission", "tessera-policy", "tessera-rollout", "tessera-vocabulary"]),
    ("tessera-rollout", &["tessera-policy", "tessera-vocabulary"]),
    ("cdi", &[]),
    ("tessera-nvml", &[]),
    ("tessera-hook", &[]),
    ("tessera-driver", &["cdi", "tessera-hook", "tessera-nvml", "tessera-vocabulary"]),
    ("tessera-core", &["cdi", "tessera-config", "tessera-driver", "tessera-policy", "tessera-vocabulary"]),
    ("tessera-device-plugin", &["cdi", "tessera-core", "tessera-driver", "tessera-vocabulary"]),
    (
        "tessera-agent",
        &[
            "cdi",
            "tessera-config",
            "tessera-core",
            "tessera-device-plugin",
            "tessera-driver",
            "tessera-kubelet-api",
            "tessera-policy",
            "tessera-vocabulary",
        ],
    ),
];

/// Crates from outside that only some of ours may use: what they stand for has one home.
const HOMES: &[(&str, &[&str])] = &[
    ("nix", &["interruptions", "simulated-sysfs"]),
    ("nvml-wrapper", &["tessera-nvml", "fake-nvml"]),
    ("kube", &["tessera-admission", "tessera-agent", "tessera-controller", "testkit", "bench"]),
    (
        "tokio",
        &["tessera-admission", "tessera-agent", "tessera-controller", "tessera-kubelet-api", "testkit", "bench", "e2e"],
    ),
    ("tonic", &["tessera-agent", "tessera-kubelet-api", "testkit", "bench"]),
];

/// What the crates of the workspace use, and whether only in tests.
fn workspace() -> BTreeMap<String, Vec<(String, bool)>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let dependencies = |package: &Value| {
        package["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .map(|dependency| (name(dependency), dependency["kind"] == "dev"))
            .collect()
    };
    metadata["packages"].as_array().unwrap().iter().map(|package| (name(package), dependencies(package))).collect()
}

#[test]
fn arrows_run_one_way() {
    let workspace = workspace();
    let ours: BTreeSet<_> = workspace.keys().collect();
    for (name, allowed) in ARROWS {
        let used: Vec<_> = workspace[*name]
            .iter()
            .filter(|(dependency, for_tests)| {
                !for_tests && ours.contains(dependency) && !allowed.contains(&dependency.as_str())
            })
            .collect();
        assert!(used.is_empty(), "{name} must not use {used:?}");
    }
}

#[test]
fn what_has_one_home_is_used_nowhere_else() {
    for (name, dependencies) in workspace() {
        for (dependency, for_tests) in dependencies {
            if let Some((_, homes)) = HOMES.iter().find(|(known, _)| *known == dependency) {
                assert!(for_tests || homes.contains(&name.as_str()), "{name} must not use {dependency}");
            }
        }
    }
}

#[test]
fn every_crate_outside_of_hack_has_its_arrows_listed() {
    let listed: BTreeSet<_> = ARROWS.iter().map(|(name, _)| *name).collect();
    let tools = [
        "bench",
        "cluster",
        "codegen",
        "e2e",
        "fake-nvml",
        "images",
        "interruptions",
        "probe",
        "simulate",
        "simulated-hardware",
        "simulated-node",
        "simulated-sysfs",
        "testkit",
        "xtask",
    ];
    for name in workspace().keys() {
        assert!(
            listed.contains(name.as_str()) || tools.contains(&name.as_str()),
            "{name} is new: say here what it may use"
        );
    }
}
