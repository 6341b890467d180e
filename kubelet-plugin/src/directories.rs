//! The kubelet's directories and the sockets in them.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tessera_vocabulary::DriverName;

/// The kubelet's directories that a driver works in.
#[derive(Debug)]
pub(crate) struct Directories {
    registry: PathBuf,
    plugin: PathBuf,
}

/// Whether it is a kubelet's directory: the kubelet makes the registry.
pub(crate) fn check(kubelet: &Path) -> anyhow::Result<()> {
    if !registry(kubelet).is_dir() {
        bail!(
            "--kubelet-dir {}: it has no directory plugins_registry; it must be the root directory of this node's \
             running kubelet (its --root-dir)",
            kubelet.display()
        );
    }
    Ok(())
}

fn registry(kubelet: &Path) -> PathBuf {
    kubelet.join("plugins_registry")
}

impl Directories {
    /// Those of a driver. Its own one is the agent's to make.
    pub(crate) fn of(driver: &DriverName, kubelet: &Path) -> anyhow::Result<Self> {
        let registry = registry(kubelet);
        let plugin = kubelet.join("plugins").join(driver.as_str());
        DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(&plugin)
            .with_context(|| format!("--kubelet-dir {}: cannot make {}", kubelet.display(), plugin.display()))?;
        Ok(Self { registry, plugin })
    }

    /// Where the DRA service is served.
    pub(crate) fn dra_socket(&self, instance: Option<&str>) -> PathBuf {
        fitting(&self.plugin, "dra", instance, "")
    }

    /// Where the kubelet is told of it.
    pub(crate) fn registration_socket(&self, driver: &str, instance: Option<&str>) -> PathBuf {
        fitting(&self.registry, driver, instance, "-reg")
    }
}

/// A socket's path, with a `@` in the file name (see [`crate::registration::Plugin::socket`]). Each agent of a node has
/// its own, so that one can come while the other still serves. Where a name does not fit, a sum of it must do: first of
/// the agent's, then of the driver's.
fn fitting(directory: &Path, begin: &str, instance: Option<&str>, end: &str) -> PathBuf {
    let sum = |text: &str| format!("{:08x}", crc32fast::hash(text.as_bytes()));
    let path = |begin: &str, middle: Option<String>| {
        let middle = middle.map(|uid| format!("-{uid}")).unwrap_or_default();
        directory.join(format!("{begin}{middle}{end}@kubelet.sock"))
    };
    let fits = |path: &PathBuf| path.as_os_str().len() <= crate::sockets::PATH_BYTES;
    let names = [
        (begin.to_owned(), instance.map(str::to_owned)),
        (begin.to_owned(), instance.map(sum)),
        (sum(begin), instance.map(sum)),
    ];
    let found = names.into_iter().map(|(begin, instance)| path(&begin, instance)).find(fits);
    // When none fits, the directory is too long, and the error is to show the name that people know.
    found.unwrap_or_else(|| path(begin, instance.map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_agent_has_sockets_of_its_own_that_fit() {
        let directories = Directories {
            registry: "/var/lib/kubelet/plugins_registry".into(),
            plugin: "/var/lib/kubelet/plugins/gpu.nvidia.com".into(),
        };
        let uid = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
        assert!(directories.dra_socket(None).ends_with("dra@kubelet.sock"));
        assert!(directories.dra_socket(Some(uid)).ends_with(format!("dra-{uid}@kubelet.sock")));
        let registration = directories.registration_socket("gpu.nvidia.com", Some(uid));
        assert!(registration.ends_with(format!("gpu.nvidia.com-{uid}-reg@kubelet.sock")));

        let long = "accelerators-of-a-vendor-with-a-long-name.example.com";
        let paths = [Some(uid), Some("another"), None].map(|uid| directories.registration_socket(long, uid));
        assert!(paths.iter().all(|path| path.as_os_str().len() <= crate::sockets::PATH_BYTES), "{paths:?}");
        assert!(paths[0] != paths[1] && paths[1] != paths[2]);
    }
}
