//! The test image, as an OCI image layout in a tar file: one static program, which is also what every pod sandbox runs, and
//! beside it the machine's own `cat` with its loader and its libraries, for what only a program with a loader shows.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use images::{File, Image, loaded_by};
use sha2::{Digest, Sha256};

use crate::parts::{Cache, Progress, build_program, hex};

/// The name under which a node knows the test image. Its program is `/probe`, see `hack/probe`; [`DYNAMIC`] is in it too.
pub const IMAGE: &str = "tessera.dev/probe:test";

/// A program of the test image that a dynamic loader starts: `cat`, by which it prints what the loader has put where.
pub const DYNAMIC: &str = "/bin/cat";

/// The image's file in the cache, built if need be.
pub(crate) fn ensure(cache: &Cache, progress: &mut Progress<'_>) -> Result<PathBuf> {
    let directory = cache.entry(&format!("image-{}", key()?), progress, |target, progress| {
        let program = build_probe(cache, target, progress)?;
        let program = fs::read(&program).with_context(|| format!("reading {}", program.display()))?;
        let mut files = vec![File::program("/probe", program)];
        files.extend(dynamic()?);
        fs::write(target.join("image.tar"), image(files).archive()?.bytes).context("writing the image")
    })?;
    Ok(directory.join("image.tar"))
}

/// Everything that decides what the image holds.
fn key() -> Result<String> {
    let root = workspace();
    let mut digest = Sha256::new();
    for path in [
        "hack/probe/Cargo.toml",
        "hack/probe/src/main.rs",
        "hack/probe/src/steps.rs",
        "rust-toolchain.toml",
        "hack/cluster/src/image.rs",
        "hack/image/src/archive.rs",
    ] {
        let content = fs::read(root.join(path)).with_context(|| format!("reading {path}"))?;
        digest.update((content.len() as u64).to_be_bytes());
        digest.update(content);
    }
    Ok(hex(&digest.finalize())[..12].to_owned())
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Static by glibc's own means: a musl target may not be installed, the host's always is.
fn build_probe(cache: &Cache, target: &Path, progress: &mut Progress<'_>) -> Result<PathBuf> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    // A directory of its own: a `cargo test` that waits for this build holds the lock of the usual one.
    let build_directory = cache.path().join("probe-target");
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(workspace())
        .args(["build", "--quiet", "--release", "--package", "probe", "--target", &triple, "--target-dir"])
        .arg(&build_directory)
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET");
    build_program(&mut cargo, &target.join("build.log"), progress)?;
    Ok(build_directory.join(triple).join("release/probe"))
}

/// The program that a loader starts, its loader and its libraries, as the machine has them, and the libraries that those
/// of Rust need: the simulated driver's are.
fn dynamic() -> Result<Vec<File>> {
    let running = std::env::current_exe().context("the path of the running program")?;
    let mut paths = BTreeSet::from([DYNAMIC.to_owned()]);
    for program in [Path::new(DYNAMIC), &running] {
        paths.extend(loaded_by(program)?);
    }
    paths.iter().map(|path| File::of_machine(path)).collect()
}

fn image(files: Vec<File>) -> Image {
    Image {
        name: IMAGE.to_owned(),
        user: None,
        entrypoint: vec!["/probe".to_owned()],
        command: vec!["pause".to_owned()],
        environment: vec!["PATH=/".to_owned()],
        labels: Vec::new(),
        layers: vec![files],
    }
}
