//! What each part is built from, and how. The versions are pinned in the part's own go.mod and go.sum.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::version::KubernetesVersion;

/// How to build one part: some Go programs out of one module.
#[derive(Debug)]
pub(crate) struct Recipe {
    /// The part's name, and its directory below `parts/`.
    pub(crate) name: &'static str,
    /// The file that pins the versions, below that directory.
    pub(crate) modfile: String,
    /// The package of each program, and the program's file name.
    pub(crate) programs: &'static [(&'static str, &'static str)],
    /// Names under which a program is called, where they are not its own.
    pub(crate) links: &'static [&'static str],
    pub(crate) cgo: bool,
    pub(crate) tags: &'static str,
    pub(crate) linker_flags: String,
    /// The time a build takes on two cores with an empty build cache.
    pub(crate) expected: Duration,
}

/// All parts of a node that runs `version`, slowest first.
pub(crate) fn recipes(version: KubernetesVersion) -> Result<Vec<Recipe>> {
    Ok(vec![
        kubernetes(version)?,
        Recipe { programs: &[("helm.sh/helm/v4/cmd/helm", "helm")], ..plain("helm", 160) },
        Recipe {
            programs: &[
                ("github.com/containerd/containerd/v2/cmd/containerd", "containerd"),
                ("github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2", "containerd-shim-runc-v2"),
                ("github.com/containerd/containerd/v2/cmd/ctr", "ctr"),
            ],
            ..plain("containerd", 75)
        },
        Recipe { programs: &[("go.etcd.io/etcd/server/v3", "etcd")], ..plain("etcd", 35) },
        Recipe {
            programs: &[("github.com/opencontainers/runc", "runc")],
            cgo: true,
            // Without it every sandbox fails: containerd always hands runc a seccomp profile.
            tags: "seccomp",
            ..plain("runc", 16)
        },
        Recipe {
            programs: &[
                ("github.com/containernetworking/plugins/plugins/main/ptp", "ptp"),
                ("github.com/containernetworking/plugins/plugins/main/loopback", "loopback"),
                ("github.com/containernetworking/plugins/plugins/ipam/host-local", "host-local"),
            ],
            ..plain("cni", 6)
        },
    ])
}

fn plain(name: &'static str, expected_seconds: u64) -> Recipe {
    Recipe {
        name,
        modfile: "go.mod".to_owned(),
        programs: &[],
        links: &[],
        cgo: false,
        tags: "",
        linker_flags: "-s -w".to_owned(),
        expected: Duration::from_secs(expected_seconds),
    }
}

/// The file that pins a version of Kubernetes, and the patch version in it.
pub(super) fn pinned(version: KubernetesVersion) -> Result<(String, String)> {
    let modfile = format!("{version}.mod");
    let path = source_directory("kubernetes").join(&modfile);
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let pinned = required_version(&text, "k8s.io/kubernetes")
        .with_context(|| format!("{} does not require k8s.io/kubernetes", path.display()))?;
    Ok((modfile, pinned.to_owned()))
}

fn kubernetes(version: KubernetesVersion) -> Result<Recipe> {
    let (modfile, pinned) = pinned(version)?;
    let (major, minor) = version.as_str().split_once('.').unwrap_or_default();
    let package = "k8s.io/component-base/version";
    Ok(Recipe {
        modfile,
        programs: &[(".", "kubernetes")],
        links: &["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"],
        linker_flags: format!(
            "-s -w -X {package}.gitVersion={pinned} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
        ),
        ..plain("kubernetes", 540)
    })
}

/// The version that a go.mod requires of `module`.
fn required_version<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    go_mod.lines().find_map(|line| {
        let line = line.trim().strip_prefix("require ").unwrap_or(line.trim());
        let (name, version) = line.split_once(' ')?;
        (name == module).then(|| version.split(' ').next().unwrap_or(version))
    })
}

/// The committed inputs of a part.
pub(crate) fn source_directory(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("parts").join(part)
}

impl Recipe {
    /// The files that decide what comes out.
    fn inputs(&self) -> Vec<PathBuf> {
        let directory = source_directory(self.name);
        let sums = self.modfile.replace(".mod", ".sum");
        [self.modfile.as_str(), sums.as_str(), "main.go"]
            .iter()
            .map(|file| directory.join(file))
            .filter(|path| path.exists())
            .collect()
    }

    /// The arguments of `go` for one program, without the output file.
    pub(crate) fn arguments(&self, package: &str) -> Vec<String> {
        let mut arguments = vec![
            "build".to_owned(),
            "-buildvcs=false".to_owned(),
            "-trimpath".to_owned(),
            format!("-modfile={}", self.modfile),
            format!("-ldflags={}", self.linker_flags),
        ];
        if !self.tags.is_empty() {
            arguments.push(format!("-tags={}", self.tags));
        }
        arguments.push(package.to_owned());
        arguments
    }

    /// Twelve hex digits over everything that decides what comes out.
    pub(crate) fn key(&self) -> Result<String> {
        let mut digest = Sha256::new();
        for path in self.inputs() {
            let content = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            digest.update((content.len() as u64).to_be_bytes());
            digest.update(content);
        }
        for (package, program) in self.programs {
            digest.update(format!("{:?} {program} cgo={}\n", self.arguments(package), self.cgo));
        }
        digest.update(self.links.join(" "));
        Ok(super::hex(&digest.finalize())[..12].to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinned_version_is_found_alone_and_in_a_block() {
        assert_eq!(required_version("require k8s.io/kubernetes v1.34.4\n", "k8s.io/kubernetes"), Some("v1.34.4"));
        let block = "require (\n\tk8s.io/kubectl v0.0.0\n\tk8s.io/kubernetes v1.37.1 // indirect\n)\n";
        assert_eq!(required_version(block, "k8s.io/kubernetes"), Some("v1.37.1"));
        assert_eq!(required_version(block, "k8s.io/api"), None);
    }

    #[test]
    fn every_version_has_its_own_key_and_the_rest_is_shared() {
        let keys = KubernetesVersion::ALL.map(|version| {
            let recipes = recipes(version).unwrap();
            recipes.iter().map(|recipe| recipe.key().unwrap()).collect::<Vec<_>>()
        });
        for (index, other) in keys.iter().enumerate().skip(1) {
            assert_ne!(keys[0][0], other[0], "version {index}");
            assert_eq!(keys[0][1..], other[1..]);
        }
    }
}
