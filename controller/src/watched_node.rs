use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube_derive::Resource;
use serde::{Deserialize, Deserializer};

/// What is read of a Node: of ten kilobytes and more its name, its labels and one condition.
///
/// The condition and not the kubelet's Lease: nodes renew these every ten seconds, the condition is what Kubernetes makes of
/// them, and a Node is told of no more often for it than for its metadata alone.
#[derive(Clone, Debug, Deserialize, Resource)]
#[resource(inherit = Node)]
pub(crate) struct WatchedNode {
    #[serde(deserialize_with = "name_and_labels")]
    pub(crate) metadata: ObjectMeta,
    #[serde(default)]
    status: Option<Status>,
}

#[derive(Clone, Debug, Deserialize)]
struct Status {
    #[serde(default)]
    conditions: Option<Vec<Condition>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    r#type: String,
    status: String,
    last_transition_time: Option<Time>,
}

impl WatchedNode {
    /// Since when it is not ready: since its kubelet has said so, or has not been heard of for so long that Kubernetes gave it
    /// up. `None` where it is, or where nothing was said yet.
    pub(crate) fn not_ready_since(&self) -> Option<Timestamp> {
        let conditions = self.status.as_ref()?.conditions.as_ref()?;
        let ready = conditions.iter().find(|condition| condition.r#type == "Ready")?;
        let since = || ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        (ready.status != "True").then(since)
    }
}

/// Not who manages which field, which is longer than all the rest.
fn name_and_labels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Read {
        name: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
        labels: Option<BTreeMap<String, String>>,
    }
    let Read { name, uid, resource_version, labels } = Read::deserialize(deserializer)?;
    Ok(ObjectMeta { name, uid, resource_version, labels, ..ObjectMeta::default() })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_node_is_not_ready_if_its_condition_says_so() {
        let ready = |status: &str| {
            json!({"conditions": [
                {"type": "DiskPressure", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                {"type": "Ready", "status": status, "lastTransitionTime": "2026-11-20T08:00:00Z", "reason": "r"},
            ]})
        };
        let since = Some("2026-11-20T08:00:00Z".parse().unwrap());
        for (status, expected) in [
            (ready("True"), None),
            (ready("False"), since),
            (ready("Unknown"), since),
            (json!({"conditions": []}), None),
            (json!({"conditions": null, "images": [{"names": ["a"]}]}), None),
            (Value::Null, None),
        ] {
            let labels = json!({"gpus": "true"});
            let metadata =
                json!({"name": "n", "uid": "1", "labels": labels, "managedFields": [{"manager": "kubelet"}]});
            let node = json!({"kind": "Node", "metadata": metadata, "spec": {}, "status": status});
            let node: WatchedNode = serde_json::from_value(node).unwrap();
            assert_eq!(node.not_ready_since(), expected, "{status}");
            assert_eq!(node.metadata.labels.as_ref().map(|labels| labels["gpus"].as_str()), Some("true"));
            assert_eq!((node.metadata.name.as_deref(), node.metadata.managed_fields.is_none()), (Some("n"), true));
        }
    }
}
