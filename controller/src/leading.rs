//! What the replica that leads does.

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use kube::Client;

use crate::classes;
use crate::cli::Options;
use crate::known_nodes::KnownNodes;
use crate::leftovers::Leftovers;
use crate::metrics::Metrics;
use crate::rollouts::Rollouts;

/// Leads until it is dropped. A part that ends or fails takes the others with it: better to be started again than to go on
/// without it.
pub(crate) async fn lead(client: &Client, options: &Options, metrics: &Metrics) -> anyhow::Result<()> {
    let known_nodes = KnownNodes::default();
    let domains = if options.domains { options.driver_names() } else { Vec::new() };
    let rollouts = Rollouts::new(client, domains, known_nodes.clone(), metrics.clone());
    let mut parts: Vec<LocalBoxFuture<'_, anyhow::Result<()>>> = vec![rollouts.run().boxed_local()];
    if let Some(file) = &options.device_classes {
        parts.push(classes::keep(client.clone(), file.clone(), metrics.clone()).boxed_local());
    }
    if !options.drivers.is_empty() {
        let leftovers = Leftovers::new(client, options.driver_names(), known_nodes, metrics.clone());
        parts.push(leftovers.clear(options.leftovers).map(Ok).boxed_local());
    }
    futures::future::select_all(parts).await.0
}
