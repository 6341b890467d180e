//! The configuration files of a node: containerd's, the pod network's and the kubelet's.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::image::IMAGE;
use crate::layout::{INSIDE, INSIDE_BIN};
use crate::record::NodeSpec;

/// Where containerd listens, inside the node.
pub(crate) const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";

/// Writes all of them into `directory`.
pub(crate) fn write(directory: &Path, node: &NodeSpec, feature_gates: &BTreeMap<String, bool>) -> Result<()> {
    let network = directory.join("cni");
    fs::create_dir_all(&network).with_context(|| format!("making {}", network.display()))?;
    let files = [
        (directory.join("containerd.toml"), containerd().into_bytes()),
        (network.join("10-ptp.conflist"), serde_json::to_vec_pretty(&pod_network(node))?),
        (directory.join("kubelet.json"), serde_json::to_vec_pretty(&kubelet(node, feature_gates))?),
    ];
    for (path, content) in files {
        fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn containerd() -> String {
    format!(
        r#"version = 3
root = "{INSIDE}/containerd"
state = "/run/containerd"
# The first two would write to /opt and take part in things that no test here needs.
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri", "io.containerd.tracing.processor.v1.otlp"]

[grpc]
address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{IMAGE}"

[plugins."io.containerd.cri.v1.runtime"]
cdi_spec_dirs = ["/etc/cdi", "/var/run/cdi"]
disable_apparmor = true
# Without CAP_SYS_RESOURCE, which root may lack, runc fails to lower a score.
restrict_oom_score_adj = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{INSIDE_BIN}"]
conf_dir = "{INSIDE}/config/cni"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{INSIDE_BIN}/runc"
SystemdCgroup = false
"#
    )
}

fn pod_network(node: &NodeSpec) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "ptp",
            // Masquerading needs iptables, and no pod here talks to the outside.
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": node.pod_range }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    })
}

fn kubelet(node: &NodeSpec, feature_gates: &BTreeMap<String, bool>) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
        "authorization": { "mode": "AlwaysAllow" },
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}", node.cgroup),
        "enforceNodeAllocatable": [],
        "failCgroupV1": false,
        "failSwapOn": false,
        "containerRuntimeEndpoint": format!("unix://{CONTAINERD_SOCKET}"),
        "resolvConf": format!("{INSIDE}/resolv.conf"),
        // Nobody answers there, but without one every pod gets a warning event.
        "clusterDNS": ["10.96.0.10"],
        "clusterDomain": "cluster.local",
        // The machine's disk and memory are not the cluster's to judge.
        "evictionHard": { "memory.available": "1Mi", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%" },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        // Its default lies below /usr and would be made on the host.
        "volumePluginDir": format!("{INSIDE}/volume-plugins"),
        "featureGates": feature_gates,
    })
}
