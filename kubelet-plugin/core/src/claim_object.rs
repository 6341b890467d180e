use k8s_openapi::api::resource::v1::AllocationResult;
use serde::Deserialize;

/// A ResourceClaim as far as it is read here: which one it is, and what it was allocated. Everything else of it (what was asked
/// for, who manages which field) is passed over when it is read: a pod waits for that, and it is most of the text.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ClaimObject {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    status: Option<Status>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    uid: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Status {
    #[serde(default)]
    allocation: Option<AllocationResult>,
}

impl ClaimObject {
    /// One with this UID and allocation.
    pub fn new(uid: String, allocation: Option<AllocationResult>) -> Self {
        Self { metadata: Metadata { uid: Some(uid) }, status: Some(Status { allocation }) }
    }

    /// Its UID.
    pub fn uid(&self) -> Option<&str> {
        self.metadata.uid.as_deref()
    }

    /// What it was allocated, if it is.
    pub fn allocation(&self) -> Option<&AllocationResult> {
        self.status.as_ref()?.allocation.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::resource::v1::ResourceClaim;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_read_of_a_claim_is_what_the_whole_of_it_says() {
        let results = json!([{"request": "gpu", "driver": "gpu.nvidia.com", "pool": "a", "device": "gpu-0"}]);
        for status in [
            json!({"allocation": {"devices": {"results": results}}, "reservedFor": [{"resource": "pods"}], "devices": null}),
            json!({"allocation": null}),
            json!({}),
            json!(null),
        ] {
            let claim = json!({
                "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
                "metadata": {"name": "training", "uid": "1-2-3", "managedFields": [{"fieldsV1": {"f:status": {}}}]},
                "spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu.nvidia.com"}}]}},
                "status": status,
            });
            let whole: ResourceClaim = serde_json::from_value(claim.clone()).unwrap();
            let read: ClaimObject = serde_json::from_value(claim).unwrap();
            let allocation = whole.status.and_then(|status| status.allocation);
            assert_eq!((read.uid(), read.allocation()), (Some("1-2-3"), allocation.as_ref()));
        }
    }
}
