//! How what was decided is written.

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::Resource;
use kube::{Api, Client};
use serde_json::{Value, json};
use tessera_policy::{NodeLayout, NodeLayoutSpec, PartitionPolicy};
use tessera_rollout::{Cluster, Write};

use crate::client::{CallError, MANAGER, call, only};
use crate::domain_writes::{DomainAnswer, DomainWriter};

/// What nobody reads: writing it moves an object on.
const FENCE: &str = "tessera.dev/fence";

/// The kinds that are written.
#[derive(Clone)]
pub(crate) struct Writer {
    policies: Api<PartitionPolicy>,
    layouts: Api<NodeLayout>,
    nodes: Api<Node>,
    domains: DomainWriter,
}

/// What the API server answers to a write.
#[derive(Debug)]
pub(crate) enum Answer {
    Policy(Box<PartitionPolicy>),
    Layout(Box<NodeLayout>),
    Removed,
    Domain(DomainAnswer),
}

impl Answer {
    /// What is known from now on.
    pub(crate) fn tell(self, cluster: &mut Cluster) {
        match self {
            Self::Policy(policy) => cluster.policy(*policy),
            Self::Layout(layout) => cluster.layout_written(*layout),
            // The watch tells.
            Self::Removed => {}
            Self::Domain(answer) => answer.tell(cluster),
        }
    }
}

impl Writer {
    pub(crate) fn new(client: &Client) -> Self {
        let (policies, layouts) = (Api::all(client.clone()), Api::all(client.clone()));
        Self { policies, layouts, nodes: Api::all(client.clone()), domains: DomainWriter::new(client) }
    }

    pub(crate) async fn send(&self, write: &Write) -> Result<Answer, CallError> {
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        match write {
            Write::Finalizers { policy, resource_version, finalizers } => {
                let patch = json!({"metadata": {"resourceVersion": resource_version, "finalizers": finalizers}});
                let answer = call(self.policies.patch(policy.as_ref(), &params, &Patch::Merge(patch))).await?;
                Ok(Answer::Policy(Box::new(answer)))
            }
            Write::Status { policy, resource_version, status, .. } => {
                let patch = json!({
                    "apiVersion": PartitionPolicy::api_version(&()),
                    "kind": PartitionPolicy::kind(&()),
                    "metadata": {"name": policy.as_ref(), "resourceVersion": resource_version},
                    "status": status,
                });
                let params = params.force();
                let answer = call(self.policies.patch_status(policy.as_ref(), &params, &Patch::Apply(patch))).await?;
                Ok(Answer::Policy(Box::new(answer)))
            }
            Write::Create { node, uid } => {
                let layout = new_layout(node.as_ref(), uid);
                let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
                call(self.layouts.create(&params, &layout)).await.map(|layout| Answer::Layout(Box::new(layout)))
            }
            Write::Layout { node, resource_version, devices } => {
                let patch = json!({"metadata": {"resourceVersion": resource_version}, "spec": {"devices": devices}});
                self.patch_layout(node.as_ref(), &params, patch).await
            }
            Write::Fence { node, resource_version } => {
                let annotations = json!({FENCE: resource_version});
                let patch = json!({"metadata": {"resourceVersion": resource_version, "annotations": annotations}});
                self.patch_layout(node.as_ref(), &params, patch).await
            }
            Write::Delete { node, uid, resource_version, gone } => {
                // An agent without its NodeLayout takes everything back, so a watch that is late must not be believed.
                if let Some(gone) = gone
                    && let Some(there) = call(self.nodes.get_metadata_opt(node.as_ref())).await?
                    && there.metadata.uid.as_ref() == Some(gone)
                {
                    return Ok(Answer::Removed);
                }
                let params = only(Some(uid.clone()), Some(resource_version.clone()));
                call(self.layouts.delete(node.as_ref(), &params)).await.map(|_| Answer::Removed)
            }
            Write::Domain(write) => self.domains.send(write).await.map(Answer::Domain),
        }
    }

    async fn patch_layout(&self, node: &str, params: &PatchParams, patch: Value) -> Result<Answer, CallError> {
        let answer = call(self.layouts.patch(node, params, &Patch::Merge(patch))).await?;
        Ok(Answer::Layout(Box::new(answer)))
    }
}

/// It goes with its Node.
fn new_layout(node: &str, uid: &str) -> NodeLayout {
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.to_owned(),
        uid: uid.to_owned(),
        ..OwnerReference::default()
    };
    let metadata =
        ObjectMeta { name: Some(node.to_owned()), owner_references: Some(vec![owner]), ..ObjectMeta::default() };
    NodeLayout { metadata, spec: NodeLayoutSpec::default(), status: None }
}
