use std::sync::Arc;
use std::time::Duration;

use backon::ExponentialBuilder;
use futures::StreamExt;
use kube::runtime::watcher::{Config, Event, ExponentialBackoff};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tessera_policy::NodeLayout;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::api;

/// A watch whose connection died silently is noticed after this many seconds.
const WATCH_TIMEOUT: u32 = 240;
/// How long after a failure the next try comes; doubled with each further failure. A cluster whose admin has installed no
/// NodeLayouts is asked seldom, by each of thousands of nodes.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// What is known of the node's NodeLayout.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Whether there was any answer, be it that it cannot be read: before, nobody knows whether a device may be offered as it
    /// is.
    pub(super) is_answered: bool,
    /// The object; `None` while there is none. Then what is in force stays.
    pub(super) object: Option<Arc<NodeLayout>>,
}

/// Watches the one object that has the node's name, until stopped.
pub(super) async fn watch(client: Client, node: String, told: watch::Sender<Seen>, stop: CancellationToken) {
    let pauses = ExponentialBuilder::new()
        .with_min_delay(FIRST_RETRY)
        .with_max_delay(LAST_RETRY)
        .with_jitter()
        .without_max_times();
    let own = Config::default().fields(&format!("metadata.name={node}")).timeout(WATCH_TIMEOUT);
    let mut events = watcher(Api::<NodeLayout>::all(client), own).backoff(ExponentialBackoff::from(pauses)).boxed();
    let (mut trouble, mut listed) = (String::new(), None);
    while let Some(Some(event)) = stop.run_until_cancelled(events.next()).await {
        let object = match event {
            Ok(Event::Init) => {
                listed = None;
                continue;
            }
            Ok(Event::InitApply(object)) => {
                listed = Some(Arc::new(object));
                continue;
            }
            Ok(Event::InitDone) => Some(listed.take()),
            Ok(Event::Apply(object)) => Some(Some(Arc::new(object))),
            Ok(Event::Delete(_)) => Some(None),
            Err(error) => {
                let now_wrong = api::brief_of_watch(&error);
                if now_wrong != trouble {
                    tell(&error, &now_wrong);
                    trouble = now_wrong;
                }
                None
            }
        };
        if object.is_some() {
            trouble.clear();
        }
        told.send_modify(|seen| {
            seen.is_answered = true;
            // Of a server that says nothing what it said before stays.
            if let Some(object) = object {
                seen.object = object;
            }
        });
    }
}

/// That a cluster knows no such objects is no fault: its admin wants none.
fn tell(error: &watcher::Error, reason: &str) {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404 => {
            info!("the API server knows no NodeLayouts; devices are offered as the agent was told");
        }
        watcher::Error::InitialListFailed(kube::Error::Api(_)) => {
            warn!(reason, "the NodeLayout of this node cannot be read; what is in force stays");
        }
        _ => debug!(reason, "the watch over the NodeLayout broke; it is made anew"),
    }
}
