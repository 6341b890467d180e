//! An image as an OCI image layout in a tar file.

use anyhow::Result;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::File;

/// What an image holds and how its program is started.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its name with a tag, by which containerd knows it once it is imported.
    pub name: String,
    /// User and group of the program, as numbers, where it is not to be root.
    pub user: Option<String>,
    /// The program and the arguments that it always has.
    pub entrypoint: Vec<String>,
    /// The arguments where a pod gives none.
    pub command: Vec<String>,
    /// `NAME=VALUE`.
    pub environment: Vec<String>,
    /// `org.opencontainers.image.*` and the like.
    pub labels: Vec<(&'static str, String)>,
    /// What changes least comes first: a node keeps the layers that it has.
    pub layers: Vec<Vec<File>>,
}

/// An image as a file.
#[derive(Clone, Debug)]
pub struct Archive {
    /// The tar file.
    pub bytes: Vec<u8>,
    /// The digest of the manifest, by which registries and pods name the image: `sha256:…`.
    pub digest: String,
    /// The bytes of all layers, unpacked. They are not compressed: who pushes an image does that, and its bytes would
    /// depend on the version of a compressor.
    pub size: u64,
}

impl Image {
    /// The image as an archive: the same bytes for the same files.
    pub fn archive(&self) -> Result<Archive> {
        let layers = self.layers.iter().map(|files| layer(files)).collect::<Result<Vec<_>>>()?;
        let config = serde_json::to_vec(&self.config(&layers))?;
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers.iter().map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar", layer)).collect::<Vec<_>>(),
        }))?;
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
        // The first is what containerd's import reads the image's name from, the second what others do.
        let tag = self.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        entry["annotations"] =
            json!({ "io.containerd.image.name": self.name, "org.opencontainers.image.ref.name": tag });
        let index = serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": [entry] }))?;

        let mut archive = tar::Builder::new(Vec::new());
        add(&mut archive, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        add(&mut archive, "index.json", 0o644, &index)?;
        for blob in layers.iter().chain([&config, &manifest]) {
            add(&mut archive, &digest(blob).replace("sha256:", "blobs/sha256/"), 0o644, blob)?;
        }
        let size = layers.iter().map(|layer| layer.len() as u64).sum();
        Ok(Archive { bytes: archive.into_inner()?, digest: digest(&manifest), size })
    }

    fn config(&self, layers: &[Vec<u8>]) -> Value {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let labels: serde_json::Map<_, _> =
            self.labels.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let mut config = json!({
            "Entrypoint": self.entrypoint,
            "Cmd": self.command,
            "Env": self.environment,
            "Labels": labels,
        });
        if let Some(user) = &self.user {
            config["User"] = json!(user);
        }
        json!({
            "architecture": architecture,
            "os": "linux",
            "config": config,
            "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|layer| digest(layer)).collect::<Vec<_>>() },
        })
    }
}

fn layer(files: &[File]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for File { path, mode, content } in files {
        add(&mut archive, path.trim_start_matches('/'), *mode, content)?;
    }
    Ok(archive.into_inner()?)
}

/// A new header has no time, no owner and no user names, so the archive depends on nothing but its content.
fn add(archive: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, path, content)?;
    Ok(())
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(content), "size": content.len() })
}

/// The digest of some bytes as OCI writes it: `sha256:…`.
pub fn digest(content: &[u8]) -> String {
    let hex: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    #[test]
    fn every_digest_names_a_blob_that_has_it() {
        let image = Image {
            name: "example.com/program:1".to_owned(),
            user: Some("1:1".to_owned()),
            entrypoint: vec!["/program".to_owned()],
            command: Vec::new(),
            environment: Vec::new(),
            labels: vec![("org.opencontainers.image.title", "program".to_owned())],
            layers: vec![
                vec![File::program("/lib/library.so", b"library".to_vec())],
                vec![File::program("/program", b"program".to_vec()), File::text("/text", b"text".to_vec())],
            ],
        };
        let archive = image.archive().unwrap();
        assert_eq!(archive.bytes, image.archive().unwrap().bytes, "it must not depend on when it was made");
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(archive.bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(entry.path().unwrap().to_string_lossy().into_owned(), content);
        }
        let blob = |descriptor: &Value| {
            let named = descriptor["digest"].as_str().unwrap();
            let content = files.get(&named.replace("sha256:", "blobs/sha256/")).unwrap();
            assert_eq!(digest(content), named);
            assert_eq!(descriptor["size"], content.len());
            content.clone()
        };
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let entry = &index["manifests"][0];
        assert_eq!(entry["annotations"]["io.containerd.image.name"], image.name);
        assert_eq!(entry["annotations"]["org.opencontainers.image.ref.name"], "1");
        assert_eq!(entry["digest"], archive.digest);
        let manifest: Value = serde_json::from_slice(&blob(entry)).unwrap();
        let config: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
        let mut size = 0;
        for number in [0, 1] {
            let layer = blob(&manifest["layers"][number]);
            assert_eq!(config["rootfs"]["diff_ids"][number], digest(&layer));
            size += layer.len() as u64;
        }
        assert_eq!(archive.size, size);
        assert_eq!(config["config"]["User"], "1:1");
        assert_eq!(config["config"]["Labels"]["org.opencontainers.image.title"], "program");

        let mut other = image;
        other.layers[1][0].content.push(b'!');
        assert_ne!(other.archive().unwrap().digest, archive.digest);
    }
}
