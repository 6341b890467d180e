//! An object from which node-feature-discovery's master takes labels: a NodeFeature, one for each node.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tessera_device_plugin::FeatureLabels;

use super::LabelError;
use super::node::MANAGER;
use crate::api;

/// By which the master knows whose node it is about.
const NODE: &str = "nfd.node.kubernetes.io/node-name";

/// What a server answers that has no such objects.
const NOT_FOUND: u16 = 404;
const UNKNOWN: LabelError = LabelError::Missing(
    "the API server knows no NodeFeatures: install node-feature-discovery, or write labels otherwise",
);

/// The object of a node, in the namespace of the agent.
pub(super) struct NodeFeature {
    client: Client,
    api: Api<DynamicObject>,
    node: String,
}

impl NodeFeature {
    pub(super) fn new(client: &Client, node: &str) -> Self {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("nfd.k8s-sigs.io", "v1alpha1", "NodeFeature"));
        Self { client: client.clone(), api: Api::default_namespaced_with(client.clone(), &kind), node: node.to_owned() }
    }

    /// As slices are called, so that it is seen whose it is.
    fn name(&self) -> String {
        format!("{}-gpu-features", self.node)
    }

    pub(super) async fn read(&self) -> Result<FeatureLabels, LabelError> {
        let object = match self.api.get_opt(&self.name()).await {
            // Also of a server that knows no such objects.
            Err(kube::Error::Api(status)) if status.code == NOT_FOUND => None,
            object => object?,
        };
        let labels = object.and_then(|object| Some(object.data.get("spec")?.get("labels")?.as_object()?.clone()));
        let labels = labels.unwrap_or_default();
        Ok(labels.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect())
    }

    /// The Node owns it: it goes with its node, and not with one pod of the agent.
    pub(super) async fn write(&self, labels: &FeatureLabels) -> Result<(), LabelError> {
        let node = api::node(&self.client, &self.node).await?;
        let owner = OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: node.name,
            uid: node.uid,
            ..OwnerReference::default()
        };
        let patch = json!({
            "apiVersion": "nfd.k8s-sigs.io/v1alpha1",
            "kind": "NodeFeature",
            "metadata": {"name": self.name(), "labels": {NODE: self.node}, "ownerReferences": [owner]},
            "spec": {"features": {"flags": {}, "attributes": {}, "instances": {}}, "labels": labels},
        });
        // All of it is ours.
        let parameters = PatchParams::apply(MANAGER).force();
        match self.api.patch(&self.name(), &parameters, &Patch::Apply(patch)).await {
            Err(kube::Error::Api(status)) if status.code == NOT_FOUND => Err(UNKNOWN),
            written => Ok(written.map(drop)?),
        }
    }
}
