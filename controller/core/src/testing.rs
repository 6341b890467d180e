//! What tests are made of.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde_json::json;
use tessera_policy::{
    DesiredDevice, DeviceId, DeviceState, Drain, Layout, NodeLayout, NodeLayoutSpec, NodeLayoutStatus, PartitionPolicy,
    PartitionPolicySpec, ReportedDevice, Rollout, Rule, Which,
};

pub(crate) fn id(name: &str) -> DeviceId {
    DeviceId { driver: "gpu.nvidia.com".to_owned(), name: name.to_owned() }
}

/// An H100 that is as it was at the agent's start.
pub(crate) fn gpu(name: &str) -> ReportedDevice {
    let index = name.rsplit('-').next().and_then(|number| number.parse::<i64>().ok()).unwrap_or_default();
    let attributes = [
        ("gpu.nvidia.com/productName", json!({"string": "NVIDIA H100 80GB HBM3"})),
        ("gpu.nvidia.com/driverVersion", json!({"version": "570.86.15"})),
        ("gpu.nvidia.com/index", json!({"int": index})),
        ("tessera.dev/vendor", json!({"string": "nvidia"})),
        ("tessera.dev/model", json!({"string": "H100"})),
    ];
    ReportedDevice {
        id: id(name),
        attributes: attributes.map(|(name, value)| (name.to_owned(), value)).into(),
        capacity: [("tessera.dev/memory".to_owned(), "81559Mi".to_owned())].into(),
        profiles: Vec::new(),
        domain: None,
        layout: None,
        state: DeviceState::Ready,
        attempt: 0,
        users: 0,
        evicting: false,
        message: String::new(),
    }
}

/// So many of them.
pub(crate) fn gpus(number: usize) -> Vec<ReportedDevice> {
    (0..number).map(|index| gpu(&format!("gpu-{index}"))).collect()
}

pub(crate) fn desired(name: &str, policy: &str, layout: Option<Layout>) -> DesiredDevice {
    DesiredDevice { id: id(name), policy: policy.to_owned(), layout, drain: Drain::default(), attempt: 0 }
}

pub(crate) fn rule(layout: Layout, max_per_node: Option<u32>) -> Rule {
    Rule { devices: Which::default(), max_per_node, layout }
}

/// A policy that has all devices be whole, with its finalizer.
pub(crate) fn policy(name: &str) -> PartitionPolicy {
    PartitionPolicy {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            uid: Some(format!("uid-of-{name}")),
            creation_timestamp: Some(Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH)),
            generation: Some(1),
            resource_version: Some("1".to_owned()),
            finalizers: Some(vec![tessera_policy::FINALIZER.to_owned()]),
            ..ObjectMeta::default()
        },
        spec: PartitionPolicySpec {
            node_selector: None,
            rules: vec![rule(Layout::whole(), None)],
            rollout: Rollout::default(),
        },
        status: None,
    }
}

/// A NodeLayout whose agent is informed.
pub(crate) fn layout(node: &str, desired: Vec<DesiredDevice>, reported: Vec<ReportedDevice>) -> NodeLayout {
    NodeLayout {
        metadata: ObjectMeta {
            name: Some(node.to_owned()),
            uid: Some(format!("layout-of-{node}")),
            generation: Some(1),
            resource_version: Some("10".to_owned()),
            owner_references: Some(vec![OwnerReference {
                kind: "Node".to_owned(),
                name: node.to_owned(),
                uid: format!("uid-of-{node}"),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        spec: NodeLayoutSpec { devices: desired },
        status: Some(NodeLayoutStatus { observed_generation: Some(1), devices: reported }),
    }
}
