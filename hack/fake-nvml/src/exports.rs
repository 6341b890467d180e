//! Holds the list of functions that rules may name against what this crate exports.

use std::collections::BTreeSet;
use std::path::Path;

/// Exported functions, found where they are written.
fn exported(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            exported(&path, found);
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        let after = text.split("#[unsafe(no_mangle)]\nextern \"C\" fn ").skip(1);
        found.extend(after.map(|rest| rest.split('(').next().unwrap().to_owned()));
    }
}

#[test]
fn the_list_of_functions_is_complete() {
    let mut found = BTreeSet::new();
    exported(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api"), &mut found);
    // Not subject to rules: it has no result that could fail.
    assert!(found.remove("nvmlErrorString"));
    let listed: Vec<String> = simulated_hardware::FUNCTIONS.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(listed, found.into_iter().collect::<Vec<_>>());
}

/// A rule is matched by the name that a function passes on, so that must be its own.
#[test]
fn functions_pass_on_their_own_names() {
    for name in simulated_hardware::FUNCTIONS {
        let mut count = 0;
        count_quoted(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api"), name, &mut count);
        assert_eq!(count, 1, "{name}");
    }
}

fn count_quoted(directory: &Path, name: &str, count: &mut usize) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            count_quoted(&path, name, count);
        } else {
            *count += std::fs::read_to_string(path).unwrap().matches(&format!("\"{name}\"")).count();
        }
    }
}
