//! The labels of the Node object: for a backend that they tell what the kernel does not know, and for a config that they
//! choose.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{Config, Event};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tessera_driver::tpu::NodeLabels;
use tokio::sync::watch;
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

/// A watch whose connection died silently is noticed after this many seconds.
const WATCH_TIMEOUT: u32 = 240;

/// The labels as a watch tells them, or why it tells none; `None` before either. What was told once stays.
pub(crate) type Labels = watch::Receiver<Told>;
type Told = Option<Result<BTreeMap<String, String>, String>>;

/// Watches them, until stopped. For what has to follow at once, and needs rights that an agent has for nothing else: where
/// nothing is chosen by a label, nobody watches.
pub(crate) async fn watch(client: Client, node: String, told: watch::Sender<Told>, stop: CancellationToken) {
    let own = Config::default().fields(&format!("metadata.name={node}")).timeout(WATCH_TIMEOUT);
    let mut events = watcher(Api::<PartialObjectMeta<Node>>::all(client), own).default_backoff().boxed();
    while let Some(Some(event)) = stop.run_until_cancelled(events.next()).await {
        let labels = match event {
            Ok(Event::Apply(node) | Event::InitApply(node)) => Ok(node.labels().clone()),
            // A Node that is made anew comes with its labels.
            Ok(Event::Init | Event::InitDone | Event::Delete(_)) => continue,
            Err(error) => Err(format!("the labels of the node cannot be watched: {}", api::brief_of_watch(&error))),
        };
        told.send_if_modified(|current| {
            let news = labels.is_ok() || !matches!(current, Some(Ok(_)));
            let changed = news && current.as_ref() != Some(&labels);
            if changed {
                *current = Some(labels);
            }
            changed
        });
    }
}

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
