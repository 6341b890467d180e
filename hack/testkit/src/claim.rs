use serde_json::{Value, json};

/// Builds a ResourceClaim as the scheduler leaves it.
///
/// ```
/// let claim = testkit::Claim::new("training").device("gpu", "gpu-0000-1b-00-0").object();
/// assert_eq!(claim["status"]["allocation"]["devices"]["results"][0]["request"], "gpu");
/// ```
#[derive(Clone, Debug)]
pub struct Claim {
    /// Its namespace, `team` unless changed.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID, made of the name unless changed.
    pub uid: String,
    results: Option<Vec<Value>>,
    configs: Vec<Value>,
}

impl Claim {
    /// The driver whose devices [`Claim::device`] hands out.
    pub const DRIVER: &str = "gpu.nvidia.com";
    /// The pool that they come from.
    pub const POOL: &str = "node-1/gpu.nvidia.com";

    /// A claim that is allocated and has got nothing yet.
    pub fn new(name: &str) -> Self {
        // FNV-1a: the same UID for the same name in every run, so that it can stand in a golden.
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self {
            namespace: "team".to_owned(),
            name: name.to_owned(),
            uid: format!("c1a10000-0000-4000-{:04x}-{:012x}", hash >> 48, hash & 0xffff_ffff_ffff),
            results: Some(Vec::new()),
            configs: Vec::new(),
        }
    }

    /// With another UID: another claim, maybe of the same name.
    #[must_use]
    pub fn uid(mut self, uid: &str) -> Self {
        uid.clone_into(&mut self.uid);
        self
    }

    /// In another namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// With one more device of this node for a request.
    #[must_use]
    pub fn device(self, request: &str, device: &str) -> Self {
        self.result(json!({"request": request, "driver": Self::DRIVER, "pool": Self::POOL, "device": device}))
    }

    /// With one more device of another driver of this node for a request.
    #[must_use]
    pub fn device_of(self, driver: &str, request: &str, device: &str) -> Self {
        let pool = format!("node-1/{driver}");
        self.result(json!({"request": request, "driver": driver, "pool": pool, "device": device}))
    }

    /// With a device that is for watching only.
    #[must_use]
    pub fn admin(self, request: &str, device: &str) -> Self {
        let result = json!({"request": request, "driver": Self::DRIVER, "pool": Self::POOL, "device": device, "adminAccess": true});
        self.result(result)
    }

    /// With a share of a device.
    #[must_use]
    pub fn share(self, request: &str, device: &str, share: &str) -> Self {
        let result =
            json!({"request": request, "driver": Self::DRIVER, "pool": Self::POOL, "device": device, "shareID": share});
        self.result(result)
    }

    /// With any allocation result, such as one of another driver.
    #[must_use]
    pub fn result(mut self, result: Value) -> Self {
        self.results.get_or_insert_default().push(result);
        self
    }

    /// With an opaque config from the claim, for some requests or, with none, for all.
    #[must_use]
    pub fn config(mut self, driver: &str, requests: &[&str], parameters: Value) -> Self {
        let opaque = json!({"driver": driver, "parameters": parameters});
        self.configs.push(json!({"source": "FromClaim", "requests": requests, "opaque": opaque}));
        self
    }

    /// Not allocated (any more).
    #[must_use]
    pub fn unallocated(mut self) -> Self {
        self.results = None;
        self
    }

    /// As the API server has it.
    pub fn object(&self) -> Value {
        let status = match &self.results {
            None => json!({}),
            Some(results) => json!({"allocation": {"devices": {"results": results, "config": self.configs}}}),
        };
        json!({
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaim",
            "metadata": {"namespace": self.namespace, "name": self.name, "uid": self.uid},
            "spec": {"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": Self::DRIVER}}]}},
            "status": status,
        })
    }
}
