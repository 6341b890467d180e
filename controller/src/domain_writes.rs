//! How what was decided about fabric domains is written.

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::resource::v1::ResourceSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::{PartialObjectMeta, Resource};
use kube::{Api, Client, ResourceExt};
use serde_json::{Map, Value, json};
use tessera_rollout::{Cluster, DomainWrite, NodeName};
use tracing::{info, warn};

use crate::client::{CallError, MANAGER, call, only};

/// Whose labels the API server takes those of nodes for: applying none of them must not take anything else away.
const LABELS_MANAGER: &str = "tessera-controller-domains";

/// The kinds that are written.
#[derive(Clone)]
pub(crate) struct DomainWriter {
    slices: Api<ResourceSlice>,
    nodes: Api<Node>,
}

/// What the API server answers to such a write.
#[derive(Debug)]
pub(crate) enum DomainAnswer {
    Labelled(NodeName),
    Slice(Box<ResourceSlice>),
    Gone(Box<ObjectMeta>),
    /// It would have stored a slice without the taints of its device, and was not asked to.
    DropsTaints,
}

impl DomainAnswer {
    /// What is known from now on.
    pub(crate) fn tell(self, cluster: &mut Cluster) {
        match self {
            Self::Labelled(node) => cluster.node_labelled(&node),
            Self::Slice(slice) => {
                if !cluster.domain_slice_written(*slice) {
                    warn!("the API server drops taints of devices; what nobody may take is withheld");
                }
            }
            Self::Gone(metadata) => cluster.domain_slice_gone(&metadata),
            Self::DropsTaints => {
                warn!("the API server drops taints of devices; fabric domains that are not complete are withheld");
                cluster.taints_are_dropped();
            }
        }
    }
}

impl DomainWriter {
    pub(crate) fn new(client: &Client) -> Self {
        Self { slices: Api::all(client.clone()), nodes: Api::all(client.clone()) }
    }

    pub(crate) async fn send(&self, write: &DomainWrite) -> Result<DomainAnswer, CallError> {
        match write {
            DomainWrite::Label { node, uid, labels, unwanted } => {
                self.label(node, uid, &json!(labels), unwanted).await?;
                info!(%node, ?labels, "a node says which fabric domains it lies in");
                Ok(DomainAnswer::Labelled(node.clone()))
            }
            DomainWrite::Create(slice) => {
                if !self.keeps_taints(slice).await? {
                    return Ok(DomainAnswer::DropsTaints);
                }
                let stored = call(self.slices.create(&params(false), slice)).await?;
                info!(slice = stored.name_any(), taints = taints(&stored), "a fabric domain has a slice");
                Ok(DomainAnswer::Slice(Box::new(stored)))
            }
            DomainWrite::Update(slice) => {
                let stored = call(self.slices.replace(&slice.name_any(), &params(false), slice)).await?;
                info!(slice = stored.name_any(), taints = taints(&stored), "the slice of a fabric domain was changed");
                Ok(DomainAnswer::Slice(Box::new(stored)))
            }
            DomainWrite::Delete { name, uid, resource_version } => {
                let params = only(Some(uid.clone()), Some(resource_version.clone()));
                call(self.slices.delete(name, &params)).await?;
                info!(slice = name, "the slice of a fabric domain was removed");
                let (name, uid) = (Some(name.clone()), Some(uid.clone()));
                Ok(DomainAnswer::Gone(Box::new(ObjectMeta { name, uid, ..ObjectMeta::default() })))
            }
        }
    }

    /// A server without taints stores a device as if anybody might take it, and a pod may have it before that is seen: so it
    /// is asked what it would store.
    async fn keeps_taints(&self, slice: &ResourceSlice) -> Result<bool, CallError> {
        let sent = taints(slice);
        Ok(sent == 0 || taints(&call(self.slices.create(&params(true), slice)).await?) >= sent)
    }

    async fn label(&self, node: &NodeName, uid: &str, labels: &Value, unwanted: &[String]) -> Result<(), CallError> {
        let name = node.as_ref();
        // With its UID: it must neither be made by this nor be another one by now.
        let patch = json!({
            "apiVersion": Node::api_version(&()),
            "kind": Node::kind(&()),
            "metadata": {"name": name, "uid": uid, "labels": labels},
        });
        let apply = PatchParams::apply(LABELS_MANAGER).force();
        let stored: PartialObjectMeta<Node> =
            call(self.nodes.patch_metadata(name, &apply, &Patch::Apply(patch))).await?;
        // What others have put there does not go by not being applied.
        let left = unwanted.iter().filter(|key| stored.labels().contains_key(*key));
        let left: Map<String, Value> = left.map(|key| (key.clone(), Value::Null)).collect();
        if !left.is_empty() {
            let patch = json!({"metadata": {"uid": uid, "labels": left}});
            let params = PatchParams { field_manager: Some(LABELS_MANAGER.to_owned()), ..PatchParams::default() };
            call(self.nodes.patch_metadata(name, &params, &Patch::Merge(patch))).await?;
        }
        Ok(())
    }
}

fn params(dry_run: bool) -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), dry_run }
}

/// How many taints the devices of a slice have.
fn taints(slice: &ResourceSlice) -> usize {
    slice.spec.devices.iter().flatten().map(|device| device.taints.as_ref().map_or(0, Vec::len)).sum()
}
