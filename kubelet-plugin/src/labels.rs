//! The labels of the Node object, for a backend that they tell what the kernel does not know.

use std::time::Duration;

use kube::Client;
use tessera_driver::tpu::NodeLabels;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::api;

/// A start waits so long for them: without them slices would be published, and then once more with what they say.
const FIRST: Duration = Duration::from_secs(3);
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// They are read again after this time, since nodes may not watch: what they say of an accelerator is said when a node is
/// made, and thousands of nodes read them.
const PAUSE: Duration = Duration::from_secs(600);
/// And after this one, for as long as they are not known.
const RETRY: Duration = Duration::from_secs(5);

/// Reads them for the first time, and gives up soon; says whether they are known.
pub(crate) async fn first(client: &Client, node: &str, labels: &NodeLabels) -> bool {
    let known = timeout(FIRST, read(client, node, labels)).await.unwrap_or(false);
    if !known {
        warn!("the labels of the node cannot be read yet; serving without what they say of its accelerators");
    }
    known
}

/// Reads them again and again, until stopped.
pub(crate) async fn follow(client: Client, node: String, labels: NodeLabels, mut known: bool, stop: CancellationToken) {
    let reading = async {
        loop {
            sleep(if known { PAUSE } else { RETRY }).await;
            known |= timeout(CALL_TIMEOUT, read(&client, &node, &labels)).await.unwrap_or(false);
        }
    };
    let _: Option<()> = stop.run_until_cancelled(reading).await;
}

/// What cannot be read stays as it was.
async fn read(client: &Client, node: &str, labels: &NodeLabels) -> bool {
    match api::node_labels(client, node).await {
        Ok(read) => {
            labels.set(read);
            true
        }
        Err(error) => {
            debug!(error = api::brief(&error), "the labels of the node cannot be read");
            false
        }
    }
}
