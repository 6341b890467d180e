//! The test image: one static program, as an OCI image layout in a tar file. Also what every pod sandbox runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::parts::{Cache, Progress, build_program, hex};

/// The name under which a node knows the test image. Its program is `/probe`; see `hack/probe`.
pub const IMAGE: &str = "tessera.dev/probe:test";

/// The image's file in the cache, built if need be.
pub(crate) fn ensure(cache: &Cache, progress: &mut Progress<'_>) -> Result<PathBuf> {
    let directory = cache.entry(&format!("image-{}", key()?), progress, |target, progress| {
        let program = build_probe(cache, target, progress)?;
        let program = fs::read(&program).with_context(|| format!("reading {}", program.display()))?;
        fs::write(target.join("image.tar"), layout(&program)?).context("writing the image")
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

/// The image as an OCI layout: the same bytes for the same program.
fn layout(program: &[u8]) -> Result<Vec<u8>> {
    let layer = layer(program)?;
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

fn layer(program: &[u8]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    add_file(&mut archive, "probe", 0o755, program)?;
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
        let image = layout(b"program").unwrap();
        assert_eq!(image, layout(b"program").unwrap(), "the image must not depend on when it was made");
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
