//! The bill of materials of an image, in CycloneDX's JSON: every crate that is linked into its programs and every
//! library beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use cyclonedx_bom::external_models::uri::Purl;
use cyclonedx_bom::models::bom::Bom;
use cyclonedx_bom::models::component::{Classification, Component, Components};
use cyclonedx_bom::models::dependency::{Dependencies, Dependency};
use cyclonedx_bom::models::hash::{Hash, HashAlgorithm, HashValue, Hashes};
use cyclonedx_bom::models::license::{LicenseChoice, Licenses};
use cyclonedx_bom::models::metadata::Metadata;
use serde::Deserialize;

use crate::file::read;
use crate::{Shared, digest};

/// Of what a bill is made.
#[derive(Clone, Copy, Debug)]
pub struct Bill<'a> {
    /// The root of the workspace.
    pub workspace: &'a Path,
    /// The image's name, without a tag, and its version.
    pub image: (&'a str, &'a str),
    /// The packages of its programs.
    pub packages: &'a [&'a str],
    /// What it has of the machine on which it was made.
    pub shared: &'a Shared,
}

/// Of what `cargo metadata` says, what a bill needs.
#[derive(Deserialize)]
struct CargoMetadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<NodeDependency>,
}

#[derive(Deserialize)]
struct NodeDependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    /// Nothing for what is linked; `dev` and `build` for the rest.
    kind: Option<String>,
}

/// Of a Cargo.lock, what a bill needs.
#[derive(Deserialize)]
struct CargoLock {
    package: Vec<LockedPackage>,
}

#[derive(Deserialize)]
struct LockedPackage {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// Writes a bill. It has no serial number and no time: the same image has the same bill.
pub fn bill_of_materials(bill: &Bill<'_>) -> Result<Vec<u8>> {
    let metadata = metadata(bill.workspace)?;
    let checksums = checksums(bill.workspace)?;
    let linked = linked(&metadata, bill.packages)?;

    let (name, version) = bill.image;
    let image = format!("{name}:{version}");
    let mut components = Vec::new();
    let mut dependencies = Vec::new();
    let mut needed: Vec<String> = Vec::new();
    for (package, uses) in &linked {
        let reference = reference(package);
        let mut component =
            Component::new(Classification::Library, &package.name, &package.version, Some(reference.clone()));
        component.purl = Some(Purl::new("cargo", &package.name, &package.version).context("a crate's name")?);
        component.licenses = package.license.as_deref().map(licence);
        component.hashes = checksums.get(&(package.name.clone(), package.version.clone())).map(|sum| sha256(sum));
        components.push(component);
        if bill.packages.contains(&package.name.as_str()) {
            needed.push(reference.clone());
        }
        dependencies.push(Dependency { dependency_ref: reference, dependencies: uses.clone() });
    }
    for file in &bill.shared.files {
        let mut component =
            Component::new(Classification::File, &file.path, &bill.shared.glibc, Some(file.path.clone()));
        component.licenses = Some(licence(licence_of_library(&file.path)));
        component.hashes = Some(sha256(digest(&file.content).trim_start_matches("sha256:")));
        components.push(component);
        needed.push(file.path.clone());
    }
    dependencies.push(Dependency { dependency_ref: image.clone(), dependencies: needed });

    let bom = Bom {
        serial_number: None,
        metadata: Some(Metadata {
            component: Some(Component::new(Classification::Container, name, version, Some(image))),
            ..Metadata::default()
        }),
        components: Some(Components(components)),
        dependencies: Some(Dependencies(dependencies)),
        ..Bom::default()
    };
    let mut text = Vec::new();
    bom.output_as_json_v1_5(&mut text).context("writing the bill of materials")?;
    text.push(b'\n');
    Ok(text)
}

fn metadata(workspace: &Path) -> Result<CargoMetadata> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new("cargo")
        .current_dir(workspace)
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &target])
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    serde_json::from_slice(&output.stdout).context("what cargo metadata says")
}

/// The digests of the crates' archives, by name and version; there is none of the workspace's own.
fn checksums(workspace: &Path) -> Result<BTreeMap<(String, String), String>> {
    let text = String::from_utf8(read(&workspace.join("Cargo.lock"))?).context("Cargo.lock")?;
    let lock: CargoLock = toml::from_str(&text).context("Cargo.lock")?;
    let of = |package: LockedPackage| Some(((package.name, package.version), package.checksum?));
    Ok(lock.package.into_iter().filter_map(of).collect())
}

/// What is linked into some packages, with what each of it uses, in the order of names and versions.
fn linked<'a>(metadata: &'a CargoMetadata, packages: &[&str]) -> Result<Vec<(&'a Package, Vec<String>)>> {
    let by_id: BTreeMap<&str, &Package> = metadata.packages.iter().map(|one| (one.id.as_str(), one)).collect();
    let uses: BTreeMap<&str, Vec<&str>> = metadata
        .resolve
        .nodes
        .iter()
        .map(|node| {
            let linked = |one: &&NodeDependency| one.dep_kinds.iter().any(|kind| kind.kind.is_none());
            (node.id.as_str(), node.deps.iter().filter(linked).map(|one| one.pkg.as_str()).collect())
        })
        .collect();
    let mut waiting = Vec::new();
    for name in packages {
        let found = metadata.packages.iter().find(|package| package.name == *name);
        waiting.push(found.with_context(|| format!("there is no package {name}"))?.id.as_str());
    }
    let mut seen = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if seen.insert(id) {
            waiting.extend(uses.get(id).into_iter().flatten());
        }
    }
    let reference = |id: &&str| by_id.get(id).map(|package| reference(package));
    let mut found: Vec<_> = seen
        .iter()
        .filter_map(|id| {
            let mut uses: Vec<_> = uses.get(id).into_iter().flatten().filter_map(reference).collect();
            uses.sort_unstable();
            uses.dedup();
            Some((*by_id.get(id)?, uses))
        })
        .collect();
    // Not by their ids, which hold the path of the workspace.
    found.sort_unstable_by(|(left, _), (right, _)| (&left.name, &left.version).cmp(&(&right.name, &right.version)));
    Ok(found)
}

fn reference(package: &Package) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version)
}

fn licence(expression: &str) -> Licenses {
    // Old manifests write a slash for "or".
    Licenses(vec![LicenseChoice::expression(&expression.replace('/', " OR "))])
}

fn licence_of_library(path: &str) -> &'static str {
    if path.contains("/libgcc_s") { "GPL-3.0-or-later WITH GCC-exception-3.1" } else { "LGPL-2.1-or-later" }
}

fn sha256(hex: &str) -> Hashes {
    Hashes(vec![Hash { alg: HashAlgorithm::SHA_256, content: HashValue(hex.to_owned()) }])
}

#[cfg(test)]
mod tests {
    use cyclonedx_bom::validation::Validate;

    use super::*;

    #[test]
    fn the_bill_names_what_is_linked_and_nothing_else_and_a_reader_takes_it() {
        let shared = Shared::of(&std::env::current_exe().unwrap()).unwrap();
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let packages = ["tessera-agent", "tessera-hook"];
        let bill =
            Bill { workspace: &workspace, image: ("tessera.dev/agent", "1"), packages: &packages, shared: &shared };
        let text = bill_of_materials(&bill).unwrap();
        assert_eq!(text, bill_of_materials(&bill).unwrap());
        let read = Bom::parse_from_json_v1_5(text.as_slice()).unwrap();
        let verdict = read.validate();
        assert!(verdict.passed(), "{verdict:?}");

        let components = read.components.unwrap().0;
        let find = |name: &str| components.iter().find(|component| component.name.to_string() == name);
        for name in ["tessera-agent", "tessera-hook", "tessera-nvml", "kube", "ring"] {
            assert!(find(name).is_some(), "{name}");
        }
        // Of tests, of builds, of tools.
        for name in ["insta", "proptest", "testkit", "tonic-prost-build", "fuser"] {
            assert!(find(name).is_none(), "{name}");
        }
        let checksum = &find("kube").unwrap().hashes.as_ref().unwrap().0[0].content.0;
        assert_eq!(checksum.len(), 64);
        let libc = components.iter().find(|component| component.name.to_string().ends_with("/libc.so.6")).unwrap();
        assert!(libc.licenses.is_some() && libc.hashes.is_some());
        let text = String::from_utf8(text).unwrap();
        assert!(
            !text.contains(workspace.canonicalize().unwrap().to_str().unwrap()),
            "paths are not anybody's business"
        );
    }
}
