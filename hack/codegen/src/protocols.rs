use std::path::PathBuf;

/// One protocol of the kubelet. Several share a package name (`v1` is both health and pod resources), so each one is
/// compiled alone and becomes a module of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Protocol {
    /// The stem of our proto file, and the name of the Rust module.
    pub(crate) module: &'static str,
    /// Where the Go module `k8s.io/kubelet` keeps the same protocol, below `pkg/apis`.
    pub(crate) upstream: &'static str,
}

/// All protocols, in the order of their modules.
pub(crate) const PROTOCOLS: [Protocol; 7] = [
    Protocol { module: "device_plugin_v1beta1", upstream: "deviceplugin/v1beta1" },
    Protocol { module: "dra_v1", upstream: "dra/v1" },
    Protocol { module: "dra_v1beta1", upstream: "dra/v1beta1" },
    Protocol { module: "health_v1", upstream: "dra-health/v1" },
    Protocol { module: "health_v1alpha1", upstream: "dra-health/v1alpha1" },
    Protocol { module: "pod_resources_v1", upstream: "podresources/v1" },
    Protocol { module: "registration", upstream: "pluginregistration/v1" },
];

impl Protocol {
    /// The name of our proto file.
    pub(crate) fn file_name(&self) -> String {
        format!("{}.proto", self.module)
    }
}

/// The crate that holds the proto files and what is generated from them.
pub(crate) fn kubelet_api() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../api/kubelet"))
}
