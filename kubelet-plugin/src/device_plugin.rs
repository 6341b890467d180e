//! The kubelet's device plugin API, served from the same look at the hardware and the same ledger as claims are.

mod checkpoint;
mod configuration;
mod desk;
mod endpoint;
mod listing;
mod service;
mod unserved;

use std::path::Path;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::pod_resources::PodResources;
pub(crate) use configuration::{Configuration, Configured};
pub(crate) use desk::{Desk, Parts};

/// The kubelet's directory of device plugins.
const DIRECTORY: &str = "device-plugins";

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
