//! The kubelet's device plugin API, served from the same look at the hardware and the same ledger as claims are.

mod desk;
mod endpoint;
mod listing;
mod service;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use futures::FutureExt;
use futures::future::BoxFuture;
use tessera_device_plugin::Config;
use tessera_vocabulary::ExtendedResources;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::backends::Row;
use crate::pod_resources::PodResources;
pub(crate) use desk::{Desk, Parts};

/// The kubelet's directory of device plugins.
const DIRECTORY: &str = "device-plugins";

/// What an admin says about a family's extended resources, now and from now on: with each change the offer is made anew
/// of the inventory, the ledger and this. What pods have stays theirs.
pub(crate) type Configured = watch::Receiver<Arc<Config>>;

/// What an admin says about a family's extended resources. NVIDIA's file says nothing about others.
///
/// # Errors
/// When the file cannot be read or followed: a node that offered something else than was meant would be worse.
pub(crate) fn configured(row: &Row, file: Option<&Path>) -> anyhow::Result<Configured> {
    let file = file.filter(|_| row.resources == ExtendedResources::NVIDIA);
    let config = file.map_or_else(|| Ok(Config::default()), read)?;
    Ok(watch::channel(Arc::new(config)).1)
}

fn read(file: &Path) -> anyhow::Result<Config> {
    let named = || format!("--config-file {}", file.display());
    let text = std::fs::read_to_string(file).with_context(named)?;
    let config = Config::parse(&text).with_context(named)?;
    if !config.ignored.is_empty() {
        info!(file = %file.display(), ignored = config.ignored.join(" "), "parts of the config change nothing here");
    }
    Ok(config)
}

/// All that has to go on so that the API is served, each until stopped.
pub(crate) fn work(
    desk: &Arc<Desk>,
    kubelet_dir: &Path,
    instance: Option<&str>,
    stop: &CancellationToken,
) -> Vec<BoxFuture<'static, ()>> {
    let directory = kubelet_dir.join(DIRECTORY);
    let listing = listing::listen(Arc::clone(desk), PodResources::new(kubelet_dir), directory.clone(), stop.clone());
    let endpoints = endpoint::Endpoints::new(Arc::clone(desk), directory, instance);
    vec![Arc::clone(desk).keep(stop.clone()).boxed(), listing.boxed(), endpoints.serve(stop.clone()).boxed()]
}
