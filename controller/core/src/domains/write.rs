use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::ResourceSlice;

use crate::NodeName;

/// A write about fabric domains.
#[derive(Clone, Debug, PartialEq)]
pub enum DomainWrite {
    /// Says of a Node which domains it lies in.
    Label {
        /// Which.
        node: NodeName,
        /// That it must still have.
        uid: String,
        /// All labels below [`DOMAIN_LABELS`](tessera_vocabulary::DOMAIN_LABELS) that it is to have.
        labels: BTreeMap<String, String>,
        /// Those below it that it has and is not to have, whoever put them there.
        unwanted: Vec<String>,
    },
    /// Adds the slice of a domain.
    Create(Box<ResourceSlice>),
    /// Puts it in the place of the one that was seen (its resourceVersion is set).
    Update(Box<ResourceSlice>),
    /// Removes a slice.
    Delete {
        /// Which.
        name: String,
        /// That it must still have.
        uid: String,
        /// That it must still have.
        resource_version: String,
    },
}

impl DomainWrite {
    /// For logs and metrics.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Label { .. } => "label",
            Self::Create(_) => "create_domain",
            Self::Update(_) => "update_domain",
            Self::Delete { .. } => "delete_domain",
        }
    }
}
