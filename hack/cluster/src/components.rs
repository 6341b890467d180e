//! The command line of each component. Every flag was found to be needed; see the comments for the less obvious.

use std::collections::BTreeMap;

use crate::credentials::kubeconfig_inside;
use crate::layout::{INSIDE, INSIDE_BIN};
use crate::record::NodeSpec;

/// The range that services' addresses come from, and the first of them, which is the API server's.
pub(crate) const SERVICE_RANGE: &str = "10.96.0.0/16";
pub(crate) const SERVICE_ADDRESS: &str = "10.96.0.1";

/// What the user of the library may change about the components.
#[derive(Debug, Clone)]
pub(crate) struct Extra<'a> {
    pub(crate) apiserver_arguments: &'a [String],
    pub(crate) feature_gates: &'a BTreeMap<String, bool>,
}

impl Extra<'_> {
    fn gates(&self) -> Vec<String> {
        let gates: Vec<String> = self.feature_gates.iter().map(|(name, on)| format!("{name}={on}")).collect();
        if gates.is_empty() { Vec::new() } else { vec![format!("--feature-gates={}", gates.join(","))] }
    }
}

fn command(program: &str, arguments: &[String]) -> Vec<String> {
    let mut argv = vec![format!("{INSIDE_BIN}/{program}")];
    argv.extend_from_slice(arguments);
    argv
}

fn owned(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|argument| (*argument).to_owned()).collect()
}

pub(crate) fn etcd() -> Vec<String> {
    command(
        "etcd",
        &owned(&[
            &format!("--data-dir={INSIDE}/etcd"),
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            // What it stores is gone with the cluster anyway.
            "--unsafe-no-fsync",
        ]),
    )
}

/// `node` is the first.
pub(crate) fn apiserver(node: &NodeSpec, extra: &Extra<'_>) -> Vec<String> {
    let config = format!("{INSIDE}/config");
    let mut arguments = owned(&[
        "--etcd-servers=http://127.0.0.1:2379",
        &format!("--bind-address={}", node.address),
        &format!("--advertise-address={}", node.address),
        "--secure-port=6443",
        &format!("--tls-cert-file={config}/apiserver.crt"),
        &format!("--tls-private-key-file={config}/apiserver.key"),
        &format!("--token-auth-file={config}/tokens.csv"),
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--service-account-issuer=https://kubernetes.default.svc",
        &format!("--service-account-key-file={config}/service-accounts.pub"),
        &format!("--service-account-signing-key-file={config}/service-accounts.key"),
        &format!("--service-cluster-ip-range={SERVICE_RANGE}"),
        // There is no kube-proxy: it finds the pods of webhooks' services by itself.
        "--enable-aggregator-routing=true",
        "--allow-privileged=true",
        // It would resolve the node's host name first, and `kubectl logs` and `exec` would time out.
        "--kubelet-preferred-address-types=InternalIP",
    ]);
    arguments.extend(extra.gates());
    arguments.extend_from_slice(extra.apiserver_arguments);
    command("kube-apiserver", &arguments)
}

pub(crate) fn controller_manager(extra: &Extra<'_>) -> Vec<String> {
    let config = format!("{INSIDE}/config");
    let mut arguments = three_times("kube-controller-manager");
    arguments.extend(owned(&[
        &format!("--service-account-private-key-file={config}/service-accounts.key"),
        &format!("--root-ca-file={config}/ca.crt"),
        "--use-service-account-credentials=true",
        // The default holds up the start of its many controllers by four seconds.
        "--kube-api-qps=500",
        "--kube-api-burst=500",
        // It makes this directory; the default is the host's.
        &format!("--flex-volume-plugin-dir={INSIDE}/volume-plugins"),
    ]));
    arguments.extend(extra.gates());
    command("kube-controller-manager", &arguments)
}

pub(crate) fn scheduler(extra: &Extra<'_>) -> Vec<String> {
    let mut arguments = three_times("kube-scheduler");
    arguments.extend(extra.gates());
    command("kube-scheduler", &arguments)
}

/// One kubeconfig for what it does, for whom it lets in and for what those may do.
fn three_times(component: &str) -> Vec<String> {
    let file = kubeconfig_inside(component);
    owned(&[
        &format!("--kubeconfig={file}"),
        &format!("--authentication-kubeconfig={file}"),
        &format!("--authorization-kubeconfig={file}"),
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
    ])
}

pub(crate) fn containerd() -> Vec<String> {
    command("containerd", &owned(&[&format!("--config={INSIDE}/config/containerd.toml")]))
}

pub(crate) fn kubelet(node: &NodeSpec) -> Vec<String> {
    command(
        "kubelet",
        &owned(&[
            &format!("--config={INSIDE}/config/kubelet.json"),
            &format!("--kubeconfig={}", kubeconfig_inside("kubelet")),
            &format!("--hostname-override={}", node.name),
            &format!("--node-ip={}", node.address),
        ]),
    )
}
