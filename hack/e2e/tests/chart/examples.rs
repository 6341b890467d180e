//! The examples, on a node that offers all that they ask for.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::{PATIENCE, Team, bare, has_taints_and_more};
use simulated_node::SimulatedNode;

/// The folders of the examples.
pub(crate) fn folders() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples");
    let folders = fs::read_dir(&all).unwrap().flatten().map(|entry| entry.path());
    let mut folders: Vec<_> = folders.filter(|path| path.is_dir()).collect();
    folders.sort_unstable();
    assert!(folders.len() > 5, "{folders:?}");
    folders
}

/// What an example applies; what is in `values.yaml` is for Helm.
pub(crate) fn manifests(folder: &Path) -> Vec<PathBuf> {
    assert!(folder.join("README.md").is_file(), "{} has no README", folder.display());
    let files = fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    files.filter(|path| path.extension().is_some_and(|end| end == "yaml") && !path.ends_with("values.yaml")).collect()
}

/// The same with the program of the test image, which is there, in place of the example's.
fn with_probe(manifest: &str) -> String {
    let line = |line: &str| {
        let indent = &line[..line.len() - line.trim_start().len()];
        match line.trim_start().split_once(": ") {
            Some(("image", _)) => format!("{indent}image: {}\n{indent}imagePullPolicy: Never\n", cluster::IMAGE),
            Some(("command", _)) => format!("{indent}args: [sleep]\n"),
            _ => format!("{line}\n"),
        }
    };
    manifest.lines().map(line).collect()
}

/// Runs an example, each of its pods, and removes it.
pub(crate) fn run(node: &SimulatedNode, folder: &Path) {
    let name = folder.file_name().unwrap().to_str().unwrap();
    let team = Team::new(node, name);
    for path in manifests(folder) {
        team.apply_yaml(&with_probe(&fs::read_to_string(path).unwrap()));
    }
    let pods = team.kubectl(&["get", "pods", "-o", "name"]);
    assert!(!pods.is_empty(), "{name} has no pod");
    for pod in pods.lines() {
        team.wait_running(pod.trim_start_matches("pod/"));
        println!("{name}: {pod} runs");
    }
}

#[test]
fn every_example_runs() {
    let gpus = bare("examples", "dgx-h100");
    gpus.boot_kernel(&[]).unwrap();
    gpus.release().install(&["offer={partitions,passthrough,groups}"]).unwrap();
    gpus.release().wait_until_ready(PATIENCE).unwrap();
    for folder in folders() {
        // Kubernetes before 1.36 drops counters, and has no extended resources by DRA.
        let needs_more =
            ["extended-resource", "groups", "partitions", "passthrough"].iter().any(|it| folder.ends_with(it));
        // These need other nodes.
        let needs_others = ["domain", "tpu"].iter().any(|it| folder.ends_with(it));
        if !needs_others && (has_taints_and_more() || !needs_more) {
            run(&gpus, &folder);
        }
    }
}
