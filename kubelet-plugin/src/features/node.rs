//! Labels that the agent itself puts onto its Node: by server-side apply, so that the API server knows which are ours. Those
//! that somebody else keeps with another value are never taken over.

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tessera_device_plugin::FeatureLabels;

use super::LabelError;

/// The name under which the API server knows the labels as ours. It outlives versions of the agent.
pub(super) const MANAGER: &str = "tessera-feature-labels";

/// What of a Node's labels is ours.
pub(super) struct OwnLabels {
    api: Api<Node>,
    node: String,
}

impl OwnLabels {
    pub(super) fn new(client: &Client, node: &str) -> Self {
        Self { api: Api::all(client.clone()), node: node.to_owned() }
    }

    pub(super) async fn read(&self) -> Result<FeatureLabels, LabelError> {
        Ok(owned(&self.api.get_metadata(&self.node).await?.metadata))
    }

    /// One that somebody else keeps with another value refuses all: who of both is right, a person has to say.
    pub(super) async fn write(&self, labels: &FeatureLabels) -> Result<(), LabelError> {
        let patch = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.node, "labels": labels}});
        self.api.patch_metadata(&self.node, &PatchParams::apply(MANAGER), &Patch::Apply(patch)).await?;
        Ok(())
    }
}

/// The labels of which the API server knows that they are ours.
fn owned(metadata: &ObjectMeta) -> FeatureLabels {
    let entries = metadata
        .managed_fields
        .iter()
        .flatten()
        .filter(|entry| entry.manager.as_deref() == Some(MANAGER) && entry.operation.as_deref() == Some("Apply"));
    let fields = entries.filter_map(|entry| entry.fields_v1.as_ref()?.0.pointer("/f:metadata/f:labels")?.as_object());
    let keys = fields.flat_map(|fields| fields.keys()).filter_map(|field| field.strip_prefix("f:"));
    let labels = metadata.labels.as_ref();
    keys.filter_map(|key| Some((key.to_owned(), labels?.get(key)?.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_applied_is_ours() {
        let entry = |manager: &str, operation: &str, keys: &[&str]| {
            let fields: serde_json::Map<_, _> = keys.iter().map(|key| (format!("f:{key}"), json!({}))).collect();
            json!({"manager": manager, "operation": operation, "fieldsType": "FieldsV1",
                   "fieldsV1": {"f:metadata": {"f:labels": fields}}})
        };
        let metadata: ObjectMeta = serde_json::from_value(json!({
            "labels": {"a": "1", "b": "2", "c": "3"},
            "managedFields": [
                entry(MANAGER, "Apply", &[".", "a", "gone"]),
                entry(MANAGER, "Update", &["b"]),
                entry("kubelet", "Update", &["c"]),
            ],
        }))
        .unwrap();
        assert_eq!(owned(&metadata), FeatureLabels::from([("a".to_owned(), "1".to_owned())]));
        assert_eq!(owned(&ObjectMeta::default()), FeatureLabels::new());
    }
}
