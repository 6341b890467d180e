//! `cargo xtask check`: formatting, lints, dependencies.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::builds::{self, cargo};
use crate::report::heading;

/// Pinned, so that its verdict is the same everywhere.
const CARGO_DENY: &str = "0.20.2";

pub(crate) fn run() -> Result<()> {
    heading("Formatting");
    cargo(&["fmt", "--all", "--check"]).context("run: cargo fmt --all")?;
    heading("Lints");
    cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
    heading("Dependencies");
    // Not the advisories: they are fetched, and a build must not depend on that.
    builds::run(Command::new(cargo_deny()?).args(["--log-level", "error", "check", "bans", "licenses", "sources"]))
}

/// cargo-deny, built once into the cache of the project.
fn cargo_deny() -> Result<PathBuf> {
    let root = cluster::cache_directory()?.join(format!("cargo-deny-{CARGO_DENY}"));
    let program = root.join("bin/cargo-deny");
    if !program.is_file() {
        println!("    building cargo-deny {CARGO_DENY}, once; about four minutes on two cores");
        let arguments = ["install", "--quiet", "--locked", "cargo-deny", "--version", CARGO_DENY, "--root"];
        builds::run(Command::new(env!("CARGO")).args(arguments).arg(&root))?;
    }
    Ok(program)
}
