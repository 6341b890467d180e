use serde_json::Value;
use simulated_node::SimulatedNode;

use crate::eventually;

/// An event of the Node object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEvent {
    /// What it says.
    pub note: String,
    /// How often it was told: more than once makes a series.
    pub count: u64,
}

impl NodeEvent {
    /// Every event of a node with this reason.
    #[track_caller]
    pub fn all(node: &SimulatedNode, reason: &str) -> Vec<Self> {
        let list = ["get", "events.v1.events.k8s.io", "--namespace", "default", "-o", "json"];
        let list: Value = serde_json::from_str(&node.cluster().kubectl_output(&list).unwrap()).unwrap();
        let of_node = |event: &&Value| event["regarding"]["kind"] == "Node" && event["reason"] == reason;
        let events = list["items"].as_array().into_iter().flatten().filter(of_node);
        let read = |event: &Value| Self {
            note: event["note"].as_str().unwrap_or_default().to_owned(),
            count: event["series"]["count"].as_u64().unwrap_or(1),
        };
        events.map(read).collect()
    }

    /// Waits for one with this reason whose note holds this text.
    #[track_caller]
    pub fn wait(node: &SimulatedNode, reason: &str, text: &str) -> Self {
        eventually(&format!("an event {reason} about {text}"), || {
            Self::all(node, reason).into_iter().find(|event| event.note.contains(text))
        })
    }
}
