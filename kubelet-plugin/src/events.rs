//! Notices become events of the Node object.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tessera_core::ClaimRef;
use tessera_vocabulary::DriverName;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::api;
use crate::bucket::Bucket;
use crate::notices::{Notice, Told};

/// So many events pass at once, and then one each interval: whatever goes wrong here, the API server is spared.
const BURST: u32 = 20;
const BETWEEN_EVENTS: Duration = Duration::from_secs(10);
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// The API server refuses an event whose note has more bytes.
const NOTE_BYTES: usize = 1024;

/// Writes the events of all drivers until stopped. One that cannot be written is lost: the log and the metrics have it.
pub(crate) async fn write(client: Client, node: String, mut notices: mpsc::Receiver<Told>, stop: CancellationToken) {
    let mut recorders: BTreeMap<_, (Option<String>, Recorder)> = BTreeMap::new();
    let regarding = self::node(&node);
    let mut bucket = Bucket::new(BURST, BETWEEN_EVENTS);
    while let Some(Some((driver, notice))) = stop.run_until_cancelled(notices.recv()).await {
        let event = event(&driver, &notice);
        let anew = || (event.note.clone(), recorder(client.clone(), &driver));
        let (last, recorder) = recorders.entry((driver.clone(), notice.reason())).or_insert_with(anew);
        if event.secondary.is_none() && event.note != *last {
            (*last, *recorder) = anew();
        }
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

/// One for each driver and reason: what two drivers tell alike is no series. Where nothing but the note tells two events
/// apart, the second has one of its own: else it would be a further occurrence of the first, and nobody would read it.
fn recorder(client: Client, driver: &DriverName) -> Recorder {
    Recorder::new(client, Reporter { controller: "tessera-agent".to_owned(), instance: Some(driver.to_string()) })
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

/// The claim is what tells two events of one reason apart: the recorder makes a series of those that are alike, and only
/// the first of a series is told.
fn event(driver: &DriverName, notice: &Notice) -> Event {
    let unnamed = |uid: &str| ObjectReference {
        api_version: Some("resource.k8s.io/v1".to_owned()),
        kind: Some("ResourceClaim".to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    };
    let claim = |claim: &ClaimRef| ObjectReference {
        namespace: Some(claim.namespace.clone()),
        name: Some(claim.name.clone()),
        ..unnamed(claim.uid.as_str())
    };
    let mut note = format!("{driver}: {notice}");
    note.truncate(note.floor_char_boundary(NOTE_BYTES));
    Event {
        type_: if notice.is_warning() { EventType::Warning } else { EventType::Normal },
        reason: notice.reason().to_owned(),
        note: Some(note),
        action: "Reconcile".to_owned(),
        secondary: notice.claim().map(claim).or_else(|| notice.uid_in_name().map(unnamed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set_aside(uid: &str, reason: &str) -> Notice {
        let path = |extension: &str| format!("/run/tessera/gpu.nvidia.com/{uid}.{extension}").into();
        Notice::RecordSetAside { path: path("record"), kept_as: path("unreadable"), reason: reason.to_owned() }
    }

    #[test]
    fn what_happened_to_two_claims_is_told_twice() {
        let stray = |uid: &str| Notice::StrayRemoved { file: format!("tessera.gpu.nvidia.com-claim_{uid}.json") };
        for (one, other) in [(set_aside("uid-1", "a"), set_aside("uid-2", "a")), (stray("uid-1"), stray("uid-2"))] {
            let related = [one, other]
                .map(|notice| event(&DriverName::nvidia_gpu(), &notice).secondary.and_then(|claim| claim.uid));
            assert_eq!(related, [Some("uid-1".to_owned()), Some("uid-2".to_owned())]);
        }
    }

    #[test]
    fn a_note_is_cut_to_what_the_server_takes() {
        let note = event(&DriverName::nvidia_gpu(), &set_aside("uid-1", &"é".repeat(2000))).note.unwrap();
        assert!((NOTE_BYTES - 1..=NOTE_BYTES).contains(&note.len()), "{}", note.len());
    }
}
