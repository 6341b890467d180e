//! Where things are on a node, and what is in them.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::mount::MountFlags;
use serde_json::Value;

use super::Node;
use crate::Claim;

impl Node {
    /// A path below the node's directory.
    pub fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join(below)
    }

    /// What stands for `/`: the simulated hardware.
    pub fn root(&self) -> PathBuf {
        self.path("root")
    }

    /// The kubelet's directory.
    pub fn kubelet_dir(&self) -> PathBuf {
        self.path("kubelet")
    }

    /// The directory of CDI specs.
    pub fn cdi_dir(&self) -> PathBuf {
        self.path("cdi")
    }

    /// The directory of the agent's state.
    pub fn state_dir(&self) -> PathBuf {
        self.path("state")
    }

    /// The names of the files with CDI specs, and of what else is there.
    pub fn specs(&self) -> Vec<String> {
        names(&self.cdi_dir())
    }

    /// The names of the files with the agent's records, and of what else is there but what all claims share.
    pub fn records(&self) -> Vec<String> {
        self.records_of(Claim::DRIVER)
    }

    /// The same of a driver.
    pub fn records_of(&self, driver: &str) -> Vec<String> {
        let mut names = names(&self.state_dir().join(driver));
        names.retain(|name| {
            !["changes", "agents", "layouts", "loans"].contains(&name.as_str()) && !name.starts_with("publisher-")
        });
        names
    }

    /// Where a claim's spec is.
    pub fn spec_path(&self, claim: &Claim) -> PathBuf {
        self.cdi_dir().join(format!("tessera.{}-claim_{}.json", Claim::DRIVER, claim.uid))
    }

    /// Where a claim's record is.
    pub fn record_path(&self, claim: &Claim) -> PathBuf {
        self.state_dir().join(Claim::DRIVER).join(format!("{}.record", claim.uid))
    }

    /// A claim's CDI spec; `None` if there is none.
    ///
    /// # Panics
    /// When it is no JSON.
    pub fn spec(&self, claim: &Claim) -> Option<Value> {
        let text = fs::read_to_string(self.spec_path(claim)).ok()?;
        Some(serde_json::from_str(&text).expect("a spec is JSON"))
    }

    /// A text in which the node's directory is written `<node>`, so that it can stand in a golden.
    pub fn anonymous(&self, text: &str) -> String {
        text.replace(&*self.directory.path().to_string_lossy(), "<node>")
    }

    /// A value of the same kind.
    pub fn anonymous_json(&self, value: &Value) -> Value {
        serde_json::from_str(&self.anonymous(&value.to_string())).expect("JSON stays JSON")
    }

    /// Mounts an empty file system of this many KiB over a directory, until [`Node::unmount`] or the end of the node.
    /// Says no where that is not allowed, as without root.
    pub fn mount_small(&mut self, directory: &Path, kib: u32) -> bool {
        let options = std::ffi::CString::new(format!("size={kib}k")).expect("no NUL");
        let mounted = rustix::mount::mount("tessera-test", directory, "tmpfs", MountFlags::empty(), options.as_c_str());
        if mounted.is_ok() {
            self.mounts.push(directory.to_owned());
        }
        mounted.is_ok()
    }

    /// Makes what [`Node::mount_small`] put there read-only, or writable again.
    pub fn set_read_only(&self, directory: &Path, read_only: bool) {
        let flags = if read_only { MountFlags::RDONLY } else { MountFlags::empty() };
        rustix::mount::mount_remount(directory, flags, "").expect("remounting");
    }

    /// Takes away what [`Node::mount_small`] put there.
    pub fn unmount(&mut self, directory: &Path) {
        self.mounts.retain(|mount| mount != directory);
        rustix::mount::unmount(directory, rustix::mount::UnmountFlags::DETACH).expect("unmounting");
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
