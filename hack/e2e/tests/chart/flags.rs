//! What the chart tells the agent and the controller, held against what they can be told.

use std::collections::BTreeSet;

use clap::{Command, CommandFactory};
use tessera_agent::cli::Arguments;

use crate::schemas::render;

/// Every value that becomes a variable of the agent's environment.
const EVERYTHING: &[&str] = &[
    "drivers.serve={nvidia,tpu}",
    "offer={partitions,passthrough,groups}",
    "deviceApi={gpu-0000-1b-00-0=both}",
    "devicePlugin.configs.shared.version=v1",
    "devicePlugin.defaultConfig=shared",
    "devicePlugin.fallbackStrategies={named,single}",
    "devicePlugin.migStrategy=mixed",
    "devicePlugin.deviceListStrategy={envvar,cdi-annotations}",
    "devicePlugin.passDeviceSpecs=true",
    "devicePlugin.cdiAnnotationPrefix=cdi.k8s.io/",
    "devicePlugin.sharedDevicesAllocationPolicy=packed",
    "devicePlugin.gdrcopy=true",
    "devicePlugin.gds=false",
    "devicePlugin.mofed=false",
    "drivers.tpu.accelerator=tpu-v5-lite-podslice",
    "drivers.tpu.topology=4x8",
    "drivers.tpu.iciResiliency=false",
    "drivers.tpu.slice=slice-1",
    "drivers.tpu.workerId=0",
    "drivers.tpu.workerHostnames={a,b}",
];

/// What is rendered of the agent (`DaemonSet`) or of the controller (`Deployment`).
fn rendered_of(kind: &str) -> String {
    let rendered = render(EVERYTHING).unwrap();
    let heading = format!("kind: {kind}");
    let document = rendered.split("\n---\n").find(|document| document.lines().any(|line| line == heading));
    document.unwrap().to_owned()
}

/// The variables of flags.
fn known_to(command: &Command) -> BTreeSet<&str> {
    command.get_arguments().filter_map(|flag| flag.get_env()?.to_str()).collect()
}

#[test]
fn every_flag_of_the_controller_that_the_chart_uses_exists_and_every_flag_can_be_set() {
    let rendered = rendered_of("Deployment");
    let names = rendered.lines().filter_map(|line| line.trim().strip_prefix("- name: "));
    let used: BTreeSet<_> = names.filter(|name| is_variable(name)).collect();
    let command = tessera_controller::cli::Options::command();
    assert_eq!(used, known_to(&command));
    let lines: Vec<_> = rendered.lines().map(str::trim).collect();
    let said = lines.windows(2).filter_map(|pair| {
        let name = pair[0].strip_prefix("- name: ").filter(|name| is_variable(name))?;
        let flag = command.get_arguments().find(|flag| flag.get_env().is_some_and(|env| env == name))?;
        Some(format!("--{}={}", flag.get_long()?, pair[1].strip_prefix("value: ")?.trim_matches('"')))
    });
    let words: Vec<_> = ["tessera-controller".to_owned()].into_iter().chain(said).collect();
    assert!(words.len() > 7, "{words:?}");
    let read = command.clone().try_get_matches_from(&words);
    assert!(read.is_ok(), "{}", read.unwrap_err());
}

#[test]
fn every_flag_that_the_chart_uses_exists_and_every_flag_can_be_set() {
    let rendered = rendered_of("DaemonSet");
    let used: BTreeSet<_> = rendered
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- name: "))
        .filter(|name| is_variable(name))
        .collect();
    let command = Arguments::command();
    let run = command.find_subcommand("run").unwrap();
    let mut known = &known_to(&command) | &known_to(run);
    // The chart has files by name, of which one alone is a case.
    known.remove("CONFIG_FILE");
    assert_eq!(used, known);
}

fn is_variable(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// By the agent itself, with the values that the chart gives.
#[test]
fn the_agent_takes_what_the_chart_tells_it() {
    let rendered = rendered_of("DaemonSet");
    let lines: Vec<_> = rendered.lines().map(str::trim).collect();
    let variables = lines.windows(2).filter_map(|pair| {
        let name = pair[0].strip_prefix("- name: ").filter(|name| is_variable(name))?;
        Some((name, pair[1].strip_prefix("value: ")?.trim_matches('"')))
    });
    let command = Arguments::command().mut_subcommand("run", |run| run.no_binary_name(false));
    let mut words = vec!["tessera-agent".to_owned(), "run".to_owned()];
    let run = command.find_subcommand("run").unwrap();
    for (name, value) in variables {
        let mut flags = command.get_arguments().chain(run.get_arguments());
        let flag = flags.find(|flag| flag.get_env().is_some_and(|env| env == name)).unwrap();
        let long = flag.get_long().unwrap();
        match flag.get_action().takes_values() {
            true => words.push(format!("--{long}={value}")),
            false => words.extend((value == "true").then(|| format!("--{long}"))),
        }
    }
    assert!(words.len() > 15, "{words:?}");
    let read = command.clone().try_get_matches_from(&words);
    assert!(read.is_ok(), "{}", read.unwrap_err());
}
