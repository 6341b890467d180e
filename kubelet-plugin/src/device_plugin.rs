//! The kubelet's device plugin API, served from the same look at the hardware and the same ledger as claims are.

mod checkpoint;
mod desk;
mod endpoint;
mod listing;
mod service;
mod unserved;

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use futures::FutureExt;
use futures::future::BoxFuture;
use tessera_device_plugin::{Config, Ignored, Overrides};
use tessera_vocabulary::ExtendedResources;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::backends::Row;
use crate::cli::RunOptions;
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
pub(crate) fn configured(row: &Row, options: &RunOptions) -> anyhow::Result<Configured> {
    let config = if row.resources == ExtendedResources::NVIDIA && options.apis().device_plugin() {
        unserved::tell();
        read(options.config_file.as_deref(), &options.device_plugin.overrides())?
    } else {
        Config::default()
    };
    Ok(watch::channel(Arc::new(config)).1)
}

fn read(file: Option<&Path>, overrides: &Overrides) -> anyhow::Result<Config> {
    let named = || file.map_or_else(|| "the flags".to_owned(), |file| format!("--config-file {}", file.display()));
    let text = file.map_or_else(|| Ok(String::new()), std::fs::read_to_string).with_context(named)?;
    let config = Config::read(&text, overrides).with_context(named)?;
    for Ignored { path, instead } in &config.ignored {
        info!(from = named(), path, instead, "a part of the config changes nothing here");
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
