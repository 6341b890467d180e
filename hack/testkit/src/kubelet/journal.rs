//! What has happened to a kubelet, over all its restarts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tessera_kubelet_api::registration::PluginInfo;

use super::health::{DeviceId, Health};

/// A plugin that the kubelet has found.
#[derive(Clone, Debug, PartialEq)]
pub struct Registered {
    /// Its registration socket.
    pub socket: PathBuf,
    /// What it said about itself.
    pub info: PluginInfo,
}

/// What a driver was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// NodePrepareResources.
    Prepare,
    /// NodeUnprepareResources.
    Unprepare,
}

/// A call that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Which driver was called.
    pub driver: String,
    /// On which socket.
    pub endpoint: PathBuf,
    /// For what.
    pub operation: Operation,
    /// For which claims: their UIDs, in the order of the request.
    pub claims: Vec<String>,
    /// How long it took.
    pub took: Duration,
    /// The status, unless it was OK.
    pub error: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Entries {
    pub(super) registered: Vec<Registered>,
    pub(super) failures: Vec<String>,
    pub(super) calls: Vec<Call>,
    /// Whose slices were wiped; `None` stands for all of the node.
    pub(super) wipes: Vec<Option<String>>,
    /// What is known of devices now.
    pub(super) health: BTreeMap<DeviceId, Health>,
}

#[derive(Debug, Default)]
pub(super) struct Journal(Mutex<Entries>);

impl Journal {
    pub(super) fn write(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
