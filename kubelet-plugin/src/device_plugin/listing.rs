use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tessera_device_plugin::{DeviceId, Listed};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::desk::Desk;
use crate::pod_resources::{Listing, PodResources};

/// The kubelet does not tell when a pod ends. It answers from memory, a hundred times a second.
const PAUSE: Duration = Duration::from_secs(1);
/// A kubelet that starts lists no pods before it has heard from the API server which there are, while their containers go
/// on. Its socket for device plugins is made anew at each start: until it is so old, silence says nothing.
const SETTLED: Duration = Duration::from_secs(20);

/// Asks the kubelet again and again what pods have by way of device plugins, until stopped.
pub(super) async fn listen(desk: Arc<Desk>, kubelet: PodResources, directory: PathBuf, stop: CancellationToken) {
    let socket = directory.join(super::endpoint::KUBELET);
    let listening = async {
        loop {
            let asked = desk.ask();
            // Before it is asked: one that starts meanwhile has a new socket.
            let complete = is_settled(&socket);
            match kubelet.list().await {
                Ok(listing) => desk.hear(asked, &listed(&listing, complete)),
                Err(error) => debug!(%error, "the kubelet does not tell what pods have"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let _: Option<()> = stop.run_until_cancelled(listening).await;
}

fn listed(listing: &Listing, complete: bool) -> Listed {
    let unit = |(id, resource): (&str, &str)| (DeviceId::read(id).unit().to_owned(), resource.to_owned());
    Listed { units: listing.devices().map(unit).collect(), complete }
}

/// Whether the kubelet has been running for so long that it knows all pods.
fn is_settled(socket: &Path) -> bool {
    let made = std::fs::symlink_metadata(socket).and_then(|data| data.modified());
    made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age >= SETTLED))
}
