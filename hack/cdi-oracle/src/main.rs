//! Reads CDI specs (files, or directories of `*.json`) with the published crate `container-device-interface` and
//! names each one that it refuses. The exit code is 1 if there is one, or if there was nothing to read: a check that
//! looked at nothing has shown nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use container_device_interface::spec::read_spec;

/// The version of the published crate; `Cargo.toml` holds it to exactly this one.
const ORACLE: &str = "container-device-interface 1.1.1";

fn main() -> anyhow::Result<ExitCode> {
    let mut specs = Vec::new();
    for argument in std::env::args_os().skip(1) {
        specs.extend(specs_at(Path::new(&argument))?);
    }
    let mut refused = 0;
    for path in &specs {
        if let Err(reason) = read_spec(path, 0) {
            refused += 1;
            println!("{}: {reason:#}", path.display());
        }
    }
    println!("{} specs accepted, {refused} refused by {ORACLE}", specs.len() - refused);
    Ok(if refused > 0 || specs.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The file itself, or the `*.json` directly inside the directory, in the order of their names.
fn specs_at(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    if !path.is_dir() {
        bail!("{}: neither a file nor a directory", path.display());
    }
    let mut specs = Vec::new();
    for entry in fs::read_dir(path).with_context(|| path.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            specs.push(path);
        }
    }
    specs.sort();
    Ok(specs)
}
