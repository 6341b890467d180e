/// What the accelerators of a family are called where pods ask for so many of them, without a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedResources {
    /// The domain of the names.
    pub domain: &'static str,
    /// The name of whole accelerators in it.
    pub whole: &'static str,
    /// What the names of partitions begin with; their shape follows.
    pub partition: &'static str,
}

impl ExtendedResources {
    /// As NVIDIA's own device plugin calls them: `nvidia.com/gpu`, `nvidia.com/mig-1g.10gb`.
    pub const NVIDIA: Self = Self { domain: "nvidia.com", whole: "gpu", partition: "mig-" };
    /// As Google's own device plugin calls them: `google.com/tpu`. Nothing of them can be cut.
    pub const GOOGLE: Self = Self { domain: "google.com", whole: "tpu", partition: "part-" };
}
