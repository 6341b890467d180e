use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use tessera_policy::{DesiredDevice, DeviceId, NodeLayout, ReportedDevice};

use crate::facts::{Facts, Texts};
use crate::{NodeName, Revision};

/// A Node object, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Changes when a node is deleted and comes back under the same name.
    pub(crate) uid: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// `None` if it is ready.
    pub(crate) not_ready_since: Option<Timestamp>,
}

/// A NodeLayout, as far as it matters.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layout {
    pub(crate) uid: String,
    /// The UID of the Node that it belongs to.
    pub(crate) owner: Option<String>,
    pub(crate) revision: Revision,
    /// As it stands in the object: preconditions name it so.
    pub(crate) resource_version: String,
    /// It is being deleted, and nothing that is written to it matters.
    pub(crate) ends: bool,
    pub(crate) desired: BTreeMap<DeviceId, DesiredDevice>,
    /// Without what the devices say of themselves, which is in `facts`.
    pub(crate) reported: BTreeMap<DeviceId, ReportedDevice>,
    pub(crate) facts: BTreeMap<DeviceId, Facts>,
    pub(crate) agent: Agent,
}

/// What the agent of a node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Agent {
    /// Nothing was ever heard of it.
    Silent,
    /// It has not said yet what it makes of the spec as it stands.
    Behind,
    /// What it says is about the spec as it stands.
    Informed,
}

impl Layout {
    /// Whether it is about this node, and not about an earlier one of the same name.
    pub(crate) fn is_of(&self, node: &Node) -> bool {
        self.owner.as_ref().is_none_or(|owner| *owner == node.uid)
    }

    /// `None` without a name, which nothing that was stored is.
    pub(crate) fn new(layout: NodeLayout, texts: &mut Texts) -> Option<(NodeName, Self)> {
        let metadata = layout.metadata;
        let status = layout.status;
        let agent = match status.as_ref().map(|status| status.observed_generation) {
            None => Agent::Silent,
            Some(observed) if observed == metadata.generation => Agent::Informed,
            Some(_) => Agent::Behind,
        };
        let owner = metadata.owner_references.into_iter().flatten().find(|owner| owner.kind == "Node");
        let (mut reported, mut facts) = (BTreeMap::new(), BTreeMap::new());
        for mut device in status.map(|status| status.devices).unwrap_or_default() {
            facts.insert(device.id.clone(), Facts::take(&mut device, texts));
            // Nothing is decided by them.
            device.profiles = Vec::new();
            reported.insert(device.id.clone(), device);
        }
        let view = Self {
            uid: metadata.uid.unwrap_or_default(),
            owner: owner.map(|owner| owner.uid),
            revision: Revision::read(metadata.resource_version.as_deref()),
            resource_version: metadata.resource_version.unwrap_or_default(),
            ends: metadata.deletion_timestamp.is_some(),
            desired: layout.spec.devices.into_iter().map(|device| (device.id.clone(), device)).collect(),
            reported,
            facts,
            agent,
        };
        Some((metadata.name.as_deref()?.into(), view))
    }
}
