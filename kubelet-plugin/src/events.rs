//! Notices become events of the Node object.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tessera_core::ClaimRef;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::api;
use crate::bucket::Bucket;
use crate::notices::Notice;

/// So many events pass at once, and then one each interval: whatever goes wrong here, the API server is spared.
const BURST: u32 = 20;
const BETWEEN_EVENTS: Duration = Duration::from_secs(10);
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Writes events until stopped. One that cannot be written is lost: the log and the metrics have it.
pub(crate) async fn write(client: Client, node: String, mut notices: mpsc::Receiver<Notice>, stop: CancellationToken) {
    let reporter = Reporter { controller: "tessera-agent".to_owned(), instance: Some(node.clone()) };
    let recorder = Recorder::new(client, reporter);
    let regarding = self::node(&node);
    let mut bucket = Bucket::new(BURST, BETWEEN_EVENTS);
    while let Some(Some(notice)) = stop.run_until_cancelled(notices.recv()).await {
        let event = event(&notice);
        let sending = async {
            bucket.take().await;
            tokio::time::timeout(CALL_TIMEOUT, recorder.publish(&event, &regarding)).await
        };
        match stop.run_until_cancelled(sending).await {
            Some(Ok(Err(error))) => debug!(reason = event.reason, error = api::brief(&error), "no event"),
            Some(Err(_)) => debug!(reason = event.reason, "no event: the API server does not answer"),
            Some(Ok(Ok(()))) | None => {}
        }
    }
}

/// The UID is the name, as in the kubelet's own events: `kubectl describe node` looks for both.
fn node(name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Node".to_owned()),
        name: Some(name.to_owned()),
        uid: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}

/// The claim is what tells two events of one reason apart: the recorder makes a series of those that are alike.
fn event(notice: &Notice) -> Event {
    let claim = |claim: &ClaimRef| ObjectReference {
        api_version: Some("resource.k8s.io/v1".to_owned()),
        kind: Some("ResourceClaim".to_owned()),
        namespace: Some(claim.namespace.clone()),
        name: Some(claim.name.clone()),
        uid: Some(claim.uid.to_string()),
        ..ObjectReference::default()
    };
    Event {
        type_: if notice.is_warning() { EventType::Warning } else { EventType::Normal },
        reason: notice.reason().to_owned(),
        note: Some(notice.to_string()),
        action: "Reconcile".to_owned(),
        secondary: notice.claim().map(claim),
    }
}
