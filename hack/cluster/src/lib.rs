//! A real Kubernetes node on this machine, isolated from it.
//!
//! [`Cluster::up`] starts etcd, the Kubernetes components, containerd and a kubelet in mounts, a network and a PID space
//! of their own. Several clusters run side by side, and nothing of the host is touched but one directory below `/run`
//! and one cgroup in each hierarchy. An owned cluster ends with the process that started it, however that ends.
//!
//! What a node consists of:
//! - `/run/cluster` is the cluster's run directory: programs, configuration, logs and data;
//! - `/dev`, `/etc`, `/run`, `/var/lib` and `/var/log` are its own; all else is the host's;
//! - it knows one image, [`IMAGE`], whose program is in `hack/probe`.
//!
//! The programs are built from pinned Go modules (`parts/`) the first time they are needed; see [`Parts`].

mod bring_up;
mod cgroups;
mod cluster;
mod components;
mod control;
mod credentials;
mod image;
mod kubeconfig;
mod layout;
mod name;
mod node_config;
mod options;
mod owner;
mod parts;
mod processes;
mod progress;
mod record;
mod registry;
mod services;
#[doc(hidden)]
pub mod supervisor;
mod version;

pub use cluster::Cluster;
pub use credentials::AGENT_USER;
pub use image::{DYNAMIC, IMAGE};
pub use kubeconfig::Identity;
pub use name::ClusterName;
pub use options::{Mode, NODE, Options};
pub use parts::{Building, Parts, cache_directory};
pub use progress::Progress;
pub use record::Bind;
pub use rustix::process::Signal;
pub use services::{Service, Status};
pub use version::KubernetesVersion;
