//! What the API server of a Kubernetes version says of its objects, taken from the module that the version is built from
//! without building it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::recipe::{pinned, source_directory};
use super::{Building, Cache, Progress};
use crate::version::KubernetesVersion;

/// The OpenAPI document (version 2, JSON) of a Kubernetes version, in the cache. The first time, the module is downloaded
/// (about 20 MiB) unless Go has it already, checked against the sums that are pinned here, and all but the document is
/// removed again.
pub fn openapi(version: KubernetesVersion) -> Result<PathBuf> {
    let cache = Cache::open()?;
    let (modfile, pinned) = pinned(version)?;
    let mut silent = |_: &Building| {};
    let mut progress = Progress::new("openapi", 1, 1, Duration::from_secs(10), &mut silent);
    let directory = cache.entry(&format!("openapi-{pinned}"), &mut progress, |target, _| {
        let modules = target.join("modules");
        download(&modfile, &modules)?;
        let source = modules.join(format!("k8s.io/kubernetes@{pinned}/api/openapi-spec/swagger.json"));
        let document = target.join(DOCUMENT);
        fs::copy(&source, &document).with_context(|| format!("copying {}", source.display()))?;
        fs::remove_dir_all(&modules).with_context(|| format!("removing {}", modules.display()))
    })?;
    Ok(directory.join(DOCUMENT))
}

const DOCUMENT: &str = "openapi.json";

/// Into a directory of its own, so that what is not needed can go again.
fn download(modfile: &str, modules: &Path) -> Result<()> {
    let asked = ["GOMODCACHE", "GOPROXY"].map(|name| go(&["env", name], modules, None));
    let [known, proxy] = asked;
    // What Go has is taken from there, by its own way to do so.
    let proxy = format!("file://{}/cache/download,{}", known?, proxy?);
    let modfile = format!("-modfile={modfile}");
    go(&["mod", "download", &modfile, "k8s.io/kubernetes"], modules, Some(&proxy)).map(drop)
}

/// What `go` prints, without the line's end. With a proxy, modules go to `modules`.
fn go(arguments: &[&str], modules: &Path, proxy: Option<&str>) -> Result<String> {
    let mut command = Command::new("go");
    command.current_dir(source_directory("kubernetes")).args(arguments).env("GOWORK", "off");
    if let Some(proxy) = proxy {
        // Or else Go makes them read-only, and they could not be removed.
        command.env("GOMODCACHE", modules).env("GOPROXY", proxy).env("GOFLAGS", "-modcacherw");
    }
    let output = command.output().context("running `go`: install Go 1.26 or newer")?;
    if !output.status.success() {
        bail!("`go {}`: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
