//! A kubelet as far as plugins see it: it finds their sockets, registers them and calls them.

mod active_pods;
mod plugin;
mod pod_resources;
mod registry;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tessera_kubelet_api::registration::PluginInfo;
use tokio::task::JoinHandle;

use crate::{PATIENCE, until};
pub use active_pods::ActivePod;
pub use plugin::{Plugin, Prepared};
pub use pod_resources::{Listing, PodResources};

/// What the kubelet says to a plugin that it has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// That it is registered.
    Confirm,
    /// That it is refused, for this reason.
    Refuse(String),
    /// Nothing, as kubelets 1.34 and 1.35 after a failed step.
    Nothing,
}

/// A plugin that the kubelet has found.
#[derive(Clone, Debug, PartialEq)]
pub struct Registered {
    /// Its registration socket.
    pub socket: PathBuf,
    /// What it said about itself.
    pub info: PluginInfo,
}

/// A running kubelet. It stops when dropped.
pub struct Kubelet {
    found: Arc<Mutex<registry::Found>>,
    watching: JoinHandle<()>,
    pod_resources: PodResources,
}

impl Kubelet {
    /// Starts looking for sockets below `plugins_registry` of a kubelet's directory, answers those that it finds, and
    /// serves pod resources. Needs an async runtime.
    pub fn start(directory: &Path, answer: Answer) -> Self {
        let found = Arc::<Mutex<registry::Found>>::default();
        let watching = tokio::spawn(registry::watch(directory.join("plugins_registry"), answer, Arc::clone(&found)));
        Self { found, watching, pod_resources: PodResources::start(directory) }
    }

    /// What it tells about the pods that are active.
    pub fn pod_resources(&self) -> &PodResources {
        &self.pod_resources
    }

    /// Every registration so far, the oldest first.
    pub fn registrations(&self) -> Vec<Registered> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).registered.clone()
    }

    /// What went wrong with sockets so far.
    pub fn failures(&self) -> Vec<String> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).failures.clone()
    }

    /// Waits for the registration with this number, counted from 1.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn registration(&self, number: usize, patience: Duration) -> Registered {
        let found = until(patience, || self.registrations().get(number - 1).cloned()).await;
        found.unwrap_or_else(|| panic!("registration {number} did not come; failures: {:#?}", self.failures()))
    }

    /// Waits for the first registration and connects to the plugin.
    pub async fn plugin(&self) -> Plugin {
        let registered = self.registration(1, PATIENCE).await;
        Plugin::connect(Path::new(&registered.info.endpoint)).await
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.watching.abort();
    }
}
