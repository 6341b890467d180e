use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube_derive::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DeviceId, Layout};

/// Which devices of which nodes get which layout, and how fast.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "tessera.dev",
    version = "v1alpha1",
    kind = "PartitionPolicy",
    plural = "partitionpolicies",
    shortname = "pp",
    category = "tessera",
    status = "PartitionPolicyStatus",
    derive = "PartialEq",
    crates(kube_core = "::kube_core"),
    printcolumn = r#"{"name": "Nodes", "type": "integer", "jsonPath": ".status.nodes.matched", "description": "Nodes with devices that the policy is about"}"#,
    printcolumn = r#"{"name": "Ready", "type": "integer", "jsonPath": ".status.nodes.ready", "description": "Nodes whose devices all have their layout"}"#,
    printcolumn = r#"{"name": "Changing", "type": "integer", "jsonPath": ".status.nodes.changing", "description": "Nodes with devices that are drained or changed"}"#,
    printcolumn = r#"{"name": "Failed", "type": "integer", "jsonPath": ".status.nodes.failed", "description": "Nodes with devices that kept their old layout"}"#,
    printcolumn = r#"{"name": "Status", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].reason"}"#,
    printcolumn = r#"{"name": "Message", "type": "string", "priority": 1, "jsonPath": ".status.conditions[?(@.type=='Ready')].message"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct PartitionPolicySpec {
    /// The nodes, by their labels. All if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<LabelSelector>,
    /// What becomes of their devices. Each device follows the first rule that it matches; devices that match none are left
    /// as they are.
    #[schemars(length(min = 1, max = 16))]
    pub rules: Vec<Rule>,
    /// How fast, and what may happen to pods.
    #[serde(default)]
    pub rollout: Rollout,
}

/// Devices, and the layout they get.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Which. All if nothing is said.
    #[serde(default)]
    pub devices: Which,
    /// How many on each node at most, in the order of their names. All that match if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 128))]
    pub max_per_node: Option<u32>,
    /// What they are offered as.
    pub layout: Layout,
}

/// Devices of a node. What is said must all hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Which {
    /// The DRA driver's name: `gpu.nvidia.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub driver: Option<String>,
    /// The vendor, as devices say in `tessera.dev/vendor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub vendor: Option<String>,
    /// The product's name, as devices say in `productName`: `NVIDIA H100 80GB HBM3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub product: Option<String>,
    /// An expression over `device`, as in a DeviceClass: `device.attributes["tessera.dev"].model.contains("H100")`. It sees the
    /// device as a whole, however it is cut now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 10_240))]
    pub cel: Option<String>,
}

/// How fast a policy is carried out, and what may happen to pods.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// How many nodes may be unavailable at once, as they are changing or not ready: a number, or a share of the policy's nodes
    /// (`25%`, rounded down, one at least).
    #[serde(default = "one")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "type(self) == int ? self >= 1 : self.matches('^([1-9][0-9]?|100)%$')",
        "message": "must be a number of nodes, 1 or more, or a percentage from 1% to 100%",
    }]))]
    pub max_unavailable: IntOrString,
    /// At how many failed nodes no further one is begun.
    #[serde(default = "one_node")]
    #[schemars(range(min = 1))]
    pub max_failed: u32,
    /// Which nodes come first.
    #[serde(default)]
    pub order: Order,
    /// What happens to who has a device that is to be changed.
    #[serde(default)]
    pub drain: Drain,
    /// No further node is begun. What has begun ends.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Any other number than before: nodes that failed are tried again.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0))]
    pub attempt: u32,
}

fn one() -> IntOrString {
    IntOrString::Int(1)
}

const fn one_node() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out a reference")]
const fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            max_unavailable: one(),
            max_failed: one_node(),
            order: Order::default(),
            drain: Drain::default(),
            paused: false,
            attempt: 0,
        }
    }
}

/// Which nodes come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Order {
    /// Those with the fewest devices in use that are to be changed, and of equal ones by name: what can be had without
    /// waiting is had first.
    #[default]
    LeastUsed,
    /// By name.
    Name,
}

/// What happens to who has a device that is to be changed. Nobody new gets it in any case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// How long a device may be waited for, in seconds.
    #[serde(default = "an_hour")]
    #[schemars(range(min = 0, max = 2_592_000))]
    pub deadline_seconds: u32,
    /// What then.
    #[serde(default)]
    pub after_deadline: Deadline,
}

const fn an_hour() -> u32 {
    3600
}

impl Default for Drain {
    fn default() -> Self {
        Self { deadline_seconds: an_hour(), after_deadline: Deadline::default() }
    }
}

/// What happens when a device was waited for long enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Deadline {
    /// The device keeps its layout, and the node has failed.
    #[default]
    GiveUp,
    /// Pods that use it are evicted, by a taint with the effect NoExecute. Pods that have it by way of the device plugin are
    /// not evicted, since nothing in Kubernetes does that.
    Evict,
}

/// How far a policy has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartitionPolicyStatus {
    /// The generation that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Nodes, by how far they are.
    #[serde(default)]
    pub nodes: Tally,
    /// Devices that follow the policy.
    #[serde(default)]
    pub devices: u32,
    /// The nodes whose turn it is: they count against `maxUnavailable`, and no other is changed. It is written before a
    /// node's NodeLayout is, so that of two controllers that know different things one is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["node"]))]
    pub turns: Vec<Turn>,
    /// What failed, of the first ten nodes by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failure>,
    /// `Ready`: all devices have their layout, or why not and what to do. `Conflicted`: some device follows another policy. `Stopped`: no further node is
    /// begun, since too many have failed or the policy is paused. `DomainsOffered`, of policies with the layout domain: all fabric
    /// domains of their devices are offered, or which is not, and what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Nodes, by how far they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// All that have devices which follow the policy.
    pub matched: u32,
    /// All of their devices have their layout.
    pub ready: u32,
    /// Some device is drained or changed.
    pub changing: u32,
    /// Some device kept its old layout.
    pub failed: u32,
    /// It is not yet their turn.
    pub waiting: u32,
}

/// A node that may be changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Turn {
    /// Its name.
    pub node: String,
    /// The resourceVersion of its NodeLayout when it got its turn: that one may be written, once.
    pub resource_version: String,
}

/// A device that kept its old layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Its node.
    pub node: String,
    /// Which.
    #[serde(flatten)]
    pub device: DeviceId,
    /// Why, and what to do.
    pub message: String,
}
