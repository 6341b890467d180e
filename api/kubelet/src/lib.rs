//! The gRPC protocols between the kubelet and its plugins, client and server side, as of Kubernetes 1.37.1.
//!
//! The modules are generated from `proto/` by `hack/codegen` and checked in. They hold messages and service traits
//! and nothing else; sockets and deadlines belong to those who use them.
//!
//! The kubelet dials the registration socket without an authority, so its path travels as `:authority` in percent
//! form, which h2 refuses. A socket whose file name holds an `@` avoids that.

#[rustfmt::skip]
mod generated;
pub mod names;

/// `v1beta1` device plugin: extended resources by count.
pub use generated::device_plugin_v1beta1;
/// `v1` DRA: prepares and releases the devices of claims.
pub use generated::dra_v1;
/// `v1beta1` DRA: as [`dra_v1`], without share ids.
pub use generated::dra_v1beta1;
/// `v1` health: the stream that ends up in the status of pods (kubelet 1.37).
pub use generated::health_v1;
/// `v1alpha1` health: as [`health_v1`], for kubelets up to 1.39.
pub use generated::health_v1alpha1;
/// `v1` pod resources: who uses which device of the node.
pub use generated::pod_resources_v1;
/// Plugin registration: how the kubelet finds out what serves a socket.
pub use generated::registration;
