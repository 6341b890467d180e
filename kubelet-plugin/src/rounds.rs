//! The rounds in which the node is looked over: once for all drivers, the kubelet is asked what its pods use.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::pod_resources::{Listing, PodResources};

/// What the last round found; `None` before the first. A driver that is slow misses rounds and holds up no other.
pub(crate) type Rounds = watch::Receiver<Option<Arc<Round>>>;

/// What one round found.
#[derive(Debug)]
pub(crate) struct Round {
    /// What pods use; `None` if the kubelet did not say.
    pub(crate) pods: Option<Listing>,
}

/// Goes round now and then every `interval`, until stopped.
pub(crate) async fn go(
    kubelet: PodResources,
    interval: Duration,
    rounds: watch::Sender<Option<Arc<Round>>>,
    stop: CancellationToken,
) {
    let round = async {
        loop {
            let pods = kubelet.list().await;
            let pods =
                pods.inspect_err(|error| debug!(%error, "cannot compare the ledgers with the kubelet's pods")).ok();
            rounds.send_replace(Some(Arc::new(Round { pods })));
            tokio::time::sleep(interval).await;
        }
    };
    stop.run_until_cancelled(round).await;
}
