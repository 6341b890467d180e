//! The test image, as an OCI image layout in a tar file: one static program, which is also what every pod sandbox runs, and
//! beside it the machine's own `cat` with its loader and its libraries, for what only a program with a loader shows.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
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
        let mut files = vec![("/probe".to_owned(), program)];
        files.extend(dynamic()?);
        fs::write(target.join("image.tar"), layout(&files)?).context("writing the image")
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

/// A path in the image, and what is there. All are programs or libraries.
type File = (String, Vec<u8>);

/// The program that a loader starts, its loader and its libraries, as the machine has them, and the libraries that those
/// of Rust need: the simulated driver's are.
fn dynamic() -> Result<Vec<File>> {
    let running = std::env::current_exe().context("the path of the running program")?;
    let mut paths = BTreeSet::from([DYNAMIC.to_owned()]);
    for program in [Path::new(DYNAMIC), &running] {
        paths.extend(libraries(program)?);
    }
    let read = |path: &str| fs::read(path).with_context(|| format!("reading {path}"));
    paths.into_iter().map(|path| Ok((path.clone(), read(&path)?))).collect()
}

/// The loader and the libraries of a program.
fn libraries(program: &Path) -> Result<Vec<String>> {
    let output = Command::new("ldd").arg(program).output().context("running ldd, which comes with glibc")?;
    let listed = String::from_utf8_lossy(&output.stdout);
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(str::to_owned);
    let paths: Vec<_> = listed.lines().filter_map(path).collect();
    if !output.status.success() || paths.len() < 2 {
        let trouble = String::from_utf8_lossy(&output.stderr);
        bail!("ldd names no loader and no library of {}: {listed}{trouble}", program.display());
    }
    Ok(paths)
}

/// The image as an OCI layout: the same bytes for the same files.
fn layout(files: &[File]) -> Result<Vec<u8>> {
    let layer = layer(files)?;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = serde_json::to_vec(&json!({
        "architecture": architecture,
        "os": "linux",
        "config": { "Entrypoint": ["/probe"], "Cmd": ["pause"], "Env": ["PATH=/"] },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    }))?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    }))?;
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    // What containerd's import reads the image's name from.
    entry["annotations"] = json!({ "io.containerd.image.name": IMAGE });
    let index = serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": [entry] }))?;

    let mut archive = tar::Builder::new(Vec::new());
    add_file(&mut archive, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    add_file(&mut archive, "index.json", 0o644, &index)?;
    for blob in [&layer, &config, &manifest] {
        let path = digest(blob).replace("sha256:", "blobs/sha256/");
        add_file(&mut archive, &path, 0o644, blob)?;
    }
    Ok(archive.into_inner()?)
}

fn layer(files: &[File]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in files {
        add_file(&mut archive, path.trim_start_matches('/'), 0o755, content)?;
    }
    Ok(archive.into_inner()?)
}

/// A new header has no time, no owner and no user names, so the archive depends on nothing but its content.
fn add_file(archive: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, path, content)?;
    Ok(())
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(content), "size": content.len() })
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(content)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    #[test]
    fn every_digest_names_a_blob_that_has_it() {
        let program = [("/probe".to_owned(), b"program".to_vec())];
        let image = layout(&program).unwrap();
        assert_eq!(image, layout(&program).unwrap(), "the image must not depend on when it was made");
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(image.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(entry.path().unwrap().to_string_lossy().into_owned(), content);
        }
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
            let content = files.get(&format!("blobs/sha256/{digest}")).unwrap();
            assert_eq!(hex(&Sha256::digest(content)), digest);
            assert_eq!(descriptor["size"], content.len());
            content.clone()
        };
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], IMAGE);
        let manifest: Value = serde_json::from_slice(&blob(&index["manifests"][0])).unwrap();
        let layer = blob(&manifest["layers"][0]);
        let config: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], digest(&layer));
    }
}
