//! What a real API server says of the chart and of the examples. `--kubernetes 1.34` and the like choose another one.

use std::fs;

use e2e::bare;
use serde_json::Value;
use simulated_node::{NAMESPACE, SimulatedNode};

use crate::examples::{folders, manifests};
use crate::schemas::render;

/// What it says of some objects that it is not to keep: nothing but that it would take each, and no warning.
fn ask(node: &SimulatedNode, what: &str, manifest: &str) {
    fs::write(node.cluster().run_directory().join("asked.yaml"), manifest).unwrap();
    let arguments = ["apply", "--dry-run=server", "--validate=strict", "-f", "/run/cluster/asked.yaml"];
    let output = node.cluster().kubectl(&arguments).output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.trim().is_empty(), "{what}: {complaints}");
}

#[test]
fn the_server_takes_what_the_chart_renders_and_every_example() {
    let node = bare("validated", "dgx-h100");
    node.cluster().kubectl_output(&["create", "namespace", NAMESPACE]).unwrap();
    for settings in [
        &[][..],
        &["drivers.serve={tpu}", "rbac.claimStatus=true"],
        &["offer={partitions,passthrough,groups}", "drivers.nvidia.root=/run/nvidia/driver"],
        &["agent.hook.enabled=false", "agent.hostPID=true", "agent.priorityClassName=system-cluster-critical"],
        &["admission.webhook.enabled=true", "admission.webhook.failurePolicy=Fail"],
        &["networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.name=monitoring", "agent.nodeSelector.a=b"],
    ] {
        ask(&node, &format!("{settings:?}"), &render(settings).unwrap());
    }
    // An expression that refers to what is not there is no error to the server when it is stored, but is told then.
    node.release().install(&["agent.nodeSelector.nowhere=here"]).unwrap();
    for name in [
        "tessera-agent-slices",
        "tessera-controller-nodes",
        "tessera-controller-slices",
        "tessera-privileged-configs",
        "tessera-privileged-classes",
    ] {
        let policy = ["get", "validatingadmissionpolicy", name, "-o", "json"];
        e2e::eventually("the server's opinion of the policy", || {
            let policy: Value = serde_json::from_str(&node.cluster().kubectl_output(&policy).unwrap()).unwrap();
            let opinion = &policy["status"]["typeChecking"];
            assert!(opinion["expressionWarnings"].is_null(), "{opinion}");
            (policy["status"]["observedGeneration"] == policy["metadata"]["generation"]).then_some(())
        });
    }
    // Examples use its classes.
    for path in folders().iter().flat_map(|folder| manifests(folder)) {
        ask(&node, &path.display().to_string(), &fs::read_to_string(&path).unwrap());
    }
    node.release().uninstall().unwrap();
    let left = [
        "get",
        "clusterrole,validatingadmissionpolicy,deviceclass",
        "-o",
        "name",
        "-l",
        "app.kubernetes.io/name=tessera",
    ];
    assert_eq!(node.cluster().kubectl_output(&left).unwrap(), "");
}
