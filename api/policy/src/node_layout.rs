use std::collections::BTreeMap;

use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Drain, Layout};

/// What the devices of a node are to be offered as, and what they are offered as. It has the node's name and belongs to it.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tessera.dev",
    version = "v1alpha1",
    kind = "NodeLayout",
    plural = "nodelayouts",
    category = "tessera",
    status = "NodeLayoutStatus",
    derive = "PartialEq",
    crates(kube_core = "::kube_core"),
    printcolumn = r#"{"name": "Desired", "type": "string", "jsonPath": ".spec.devices[*].layout"}"#,
    printcolumn = r#"{"name": "State", "type": "string", "jsonPath": ".status.devices[*].state"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct NodeLayoutSpec {
    /// Devices that follow a policy. All others are offered as the agent was told at its start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["driver", "name"]))]
    pub devices: Vec<DesiredDevice>,
}

/// Which device of a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeviceId {
    /// The DRA driver's name.
    pub driver: String,
    /// The name of the whole device, as it is in ResourceSlices.
    pub name: String,
}

/// What a device is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DesiredDevice {
    /// Which.
    #[serde(flatten)]
    pub id: DeviceId,
    /// The policy that says so. It is told to who has to wait for the device.
    pub policy: String,
    /// What it is offered as. Nothing: as the agent was told at its start, since the policy is being withdrawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
    /// What happens to who has it.
    #[serde(default)]
    pub drain: Drain,
    /// Any other number than the one that was tried: a change that failed is tried again.
    #[serde(default)]
    pub attempt: u32,
}

/// What the agent of the node says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeLayoutStatus {
    /// The generation of the spec that the agent follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// All devices of the node, by driver and name, whether they follow a policy or not.
    // Bounded, as the API server estimates what the rule of a layout may cost, and refuses the whole definition otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["driver", "name"]))]
    pub devices: Vec<ReportedDevice>,
}

/// A device of the node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReportedDevice {
    /// Which.
    #[serde(flatten)]
    pub id: DeviceId,
    /// What the whole device says of itself in ResourceSlices, by full name: `gpu.nvidia.com/productName`. Values are as they
    /// are there: `{"string": "H100"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(with = "BTreeMap<String, Attribute>")]
    pub attributes: BTreeMap<String, Value>,
    /// The same of capacities: a quantity.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub capacity: BTreeMap<String, String>,
    /// The profiles of the parts that it can have, smallest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// The fabric domain that it lies in, where that spans nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
    /// What it is offered as now. Nothing: as the agent was told at its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
    /// How far it is.
    pub state: DeviceState,
    /// The desired attempt that this state is of.
    #[serde(default)]
    pub attempt: u32,
    /// How many claims and pods have it or a part of it.
    #[serde(default)]
    pub users: u32,
    /// They were waited for until the deadline, and are to be evicted: by the agent's own taint, or by its domain's where it is
    /// offered with one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub evicting: bool,
    /// Who is waited for, or what failed and what to do; for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A fabric domain that spans nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Domain {
    /// What tells it from others, on all its nodes the same: the value of the attribute `tessera.dev/fabricDomain`.
    pub name: String,
    /// How many nodes it has when it is complete, where the hardware says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u32>,
}

/// The schema of an attribute's value.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is used")]
struct Attribute {
    string: Option<String>,
    int: Option<i64>,
    bool: Option<bool>,
    version: Option<String>,
}

/// How far a device is with its desired layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeviceState {
    /// It has the layout that is desired, or none is.
    Ready,
    /// It is given to nobody new, and whoever has it is waited for.
    Draining,
    /// It is being changed.
    Changing,
    /// It could not be changed and has the layout that it had before.
    Failed,
}
