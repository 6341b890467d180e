//! The words that the kubelet expects in registrations. They are no part of the proto files; the source of each is
//! the Go module `k8s.io/kubelet` v0.37.1, below `pkg/apis`.

/// The type of a DRA driver in [`PluginInfo`](crate::registration::PluginInfo)
/// (`pluginregistration/v1/constants.go`, `DRAPlugin`).
pub const DRA_PLUGIN_TYPE: &str = "DRAPlugin";

/// Says that a socket serves [`dra_v1`](crate::dra_v1) (`dra/v1/types.go`, `DRAPluginService`).
pub const DRA_V1: &str = "v1.DRAPlugin";

/// Says that a socket serves [`dra_v1beta1`](crate::dra_v1beta1) (`dra/v1beta1/types.go`, `DRAPluginService`).
pub const DRA_V1BETA1: &str = "v1beta1.DRAPlugin";

/// Says that a socket serves [`health_v1`](crate::health_v1) (`dra-health/v1/types.go`).
pub const HEALTH_V1: &str = "v1.DRAResourceHealth";

/// Says that a socket serves [`health_v1alpha1`](crate::health_v1alpha1) (`dra-health/v1alpha1/types.go`).
pub const HEALTH_V1ALPHA1: &str = "v1alpha1.DRAResourceHealth";

/// The supported versions of a driver that serves everything, best first: the kubelet takes the first DRA entry that
/// it knows (`pkg/kubelet/cm/dra/plugin/dra_plugin_manager.go` of Kubernetes 1.37.1) and ignores what it does not.
pub const SUPPORTED_VERSIONS: [&str; 4] = [DRA_V1, DRA_V1BETA1, HEALTH_V1, HEALTH_V1ALPHA1];

/// The version of the device plugin protocol in a
/// [`RegisterRequest`](crate::device_plugin_v1beta1::RegisterRequest) (`deviceplugin/v1beta1/constants.go`).
pub const DEVICE_PLUGIN_VERSION: &str = "v1beta1";

/// A usable [`Device`](crate::device_plugin_v1beta1::Device) (`deviceplugin/v1beta1/constants.go`).
pub const HEALTHY: &str = "Healthy";

/// An unusable [`Device`](crate::device_plugin_v1beta1::Device) (`deviceplugin/v1beta1/constants.go`).
pub const UNHEALTHY: &str = "Unhealthy";
