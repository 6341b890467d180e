//! How a cluster's accelerators are to be cut, as two kinds of objects.
//!
//! - [`PartitionPolicy`] is an admin's word: which devices of which nodes get which layout, and how fast. Cluster-scoped.
//! - [`NodeLayout`] is what the controller makes of all policies for one node, under the node's name: its spec is written by
//!   the controller alone, its status by that node's agent alone. An admin reads it to see why a node waits.
//!
//! The two share [`Layout`], and the CustomResourceDefinitions ([`definitions`]) carry the rules that an API server can
//! hold by itself. Nothing here does I/O.

mod layout;
mod node_layout;
mod partition_policy;

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube_core::CustomResourceExt;

pub use layout::{Anything, Layout, Mix, Shares};
pub use node_layout::{
    DesiredDevice, DeviceId, DeviceState, Domain, NodeLayout, NodeLayoutSpec, NodeLayoutStatus, ReportedDevice,
};
pub use partition_policy::{
    Deadline, Drain, Failure, Order, PartitionPolicy, PartitionPolicySpec, PartitionPolicyStatus, Rollout, Rule, Tally,
    Turn, Which,
};

/// The API group of both kinds.
pub const GROUP: &str = "tessera.dev";

/// Keeps a policy that is deleted until no device has a layout of it any more.
pub const FINALIZER: &str = "tessera.dev/partition-policy";

/// What the API server is to be told before it knows these kinds.
pub fn definitions() -> [CustomResourceDefinition; 2] {
    [PartitionPolicy::crd(), NodeLayout::crd()].map(|mut definition| {
        for version in &mut definition.spec.versions {
            if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
                forget_unsigned(schema);
            }
        }
        definition
    })
}

/// The API server warns of formats that it does not know, and it knows no unsigned ones; the minimum says it.
fn forget_unsigned(schema: &mut JSONSchemaProps) {
    schema.format.take_if(|format| format.starts_with("uint"));
    schema.properties.iter_mut().flat_map(BTreeMap::values_mut).for_each(forget_unsigned);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(schema)) => forget_unsigned(schema),
        Some(JSONSchemaPropsOrArray::Schemas(schemas)) => schemas.iter_mut().for_each(forget_unsigned),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(schema)) = &mut schema.additional_properties {
        forget_unsigned(schema);
    }
}

#[cfg(test)]
mod tests {
    use super::definitions;

    #[test]
    fn the_api_server_knows_every_format() {
        for definition in definitions() {
            let text = serde_json::to_string(&definition).unwrap();
            assert!(text.contains("maxItems") && !text.contains("uint"), "{text}");
        }
    }
}
