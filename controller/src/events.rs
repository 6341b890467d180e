//! What becomes of a policy is told as events of it: `kubectl describe partitionpolicy` shows them.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Client;
use kube::core::Resource;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tessera_policy::PartitionPolicy;
use tracing::debug;

use crate::client::{MANAGER, call};

/// The API server refuses an event whose note has more bytes.
const NOTE_BYTES: usize = 1024;

/// Tells of policies.
pub(crate) struct Events {
    client: Client,
}

impl Events {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// An event that cannot be written is lost: the condition says the same. Each has a recorder of its own: alike ones
    /// would become a series, of which only the first is told.
    pub(crate) async fn tell(&self, policy: &PartitionPolicy, news: &[Condition]) {
        let regarding: ObjectReference = policy.object_ref(&());
        for condition in news.iter().filter(|condition| !is_good_end(condition)) {
            let recorder =
                Recorder::new(self.client.clone(), Reporter { controller: MANAGER.to_owned(), instance: None });
            if let Err(error) = call(recorder.publish(&event(condition), &regarding)).await {
                debug!(%error, reason = condition.reason, "no event");
            }
        }
    }
}

/// That something bad is over: what follows says more.
fn is_good_end(condition: &Condition) -> bool {
    ["Conflicted", "Stopped"].contains(&condition.type_.as_str()) && condition.status == "False"
}

/// Whether nobody has to do anything about it.
fn is_well(condition: &Condition) -> bool {
    let reason = condition.reason.as_str();
    match condition.type_.as_str() {
        "Ready" => !["Failed", "Invalid", "Conflicted"].contains(&reason),
        "DomainsOffered" => ["Offered", "RollingOut", "Withdrawing"].contains(&reason),
        _ => false,
    }
}

fn event(condition: &Condition) -> Event {
    let mut note = condition.message.clone();
    note.truncate(note.floor_char_boundary(NOTE_BYTES));
    Event {
        type_: if is_well(condition) { EventType::Normal } else { EventType::Warning },
        reason: condition.reason.clone(),
        note: Some(note),
        action: "RollOut".to_owned(),
        secondary: None,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    #[test]
    fn what_somebody_must_do_something_about_is_a_warning() {
        for (type_, status, reason, told) in [
            ("Ready", "True", "Complete", Some("Normal")),
            ("Ready", "False", "RollingOut", Some("Normal")),
            ("Ready", "False", "Failed", Some("Warning")),
            ("Conflicted", "True", "FollowsAnother", Some("Warning")),
            ("Conflicted", "False", "NoConflict", None),
            ("Stopped", "True", "TooManyFailed", Some("Warning")),
            ("Stopped", "False", "Proceeding", None),
            ("DomainsOffered", "True", "Offered", Some("Normal")),
            ("DomainsOffered", "False", "RollingOut", Some("Normal")),
            ("DomainsOffered", "False", "NodesMissing", Some("Warning")),
        ] {
            let condition = Condition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: reason.to_owned(),
                message: "é".repeat(2000),
                observed_generation: None,
                last_transition_time: Time(Timestamp::UNIX_EPOCH),
            };
            let written = event(&condition);
            assert!(written.note.is_some_and(|note| (NOTE_BYTES - 1..=NOTE_BYTES).contains(&note.len())));
            let kind = match written.type_ {
                EventType::Normal => "Normal",
                EventType::Warning => "Warning",
            };
            assert_eq!((!is_good_end(&condition)).then_some(kind), told, "{reason}");
        }
    }
}
