//! Real Kubernetes nodes on this machine, isolated from it.
//!
//! [`Cluster::up`] starts etcd, the Kubernetes components, containerd and a kubelet in mounts, a network and a PID space
//! of their own. Several clusters run side by side, and nothing of the host is touched but one directory below `/run`
//! and one cgroup in each hierarchy. An owned cluster ends with the process that started it, however that ends.
//!
//! A cluster has one node that has all of this, and up to eight more ([`Options::nodes`]), each with a container runtime, a
//! kubelet, mounts, a network and a PID space of its own. They are plugged into the first one's network, have their run
//! directories in the cluster's, and can be killed and started again alone ([`Cluster::kill_node`]).
//!
//! What a node consists of:
//! - `/run/cluster` is its run directory: programs, configuration, logs and data;
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
mod further_nodes;
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
pub use options::{MOST_NODES, Mode, NODE, Options};
pub use parts::{Building, Parts, cache_directory, openapi};
pub use progress::Progress;
pub use record::Bind;
pub use rustix::process::Signal;
pub use services::{Service, Status};
pub use version::KubernetesVersion;
