//! The API server, as far as the agent needs it: a client, the node, a claim by name.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::resource::v1::ResourceClaim;
use kube::api::GetParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher;
use kube::{Api, Client, Config, Resource};
use tessera_core::{ClaimObject, NodeIdentity};

/// The kubelet gives a prepare call 45 s and retries it for ever; answering with a reason beats running into that.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client from a kubeconfig file, or from the environment. Does not connect yet.
pub(crate) async fn client(kubeconfig: Option<&Path>) -> anyhow::Result<Client> {
    let mut config = match kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path)
                .with_context(|| format!("--kubeconfig {} cannot be used", path.display()))?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("--kubeconfig {} cannot be used", path.display()))?
        }
        None => Config::infer().await.context(
            "no way to the API server: give --kubeconfig, set KUBECONFIG, or run in a pod with a service account",
        )?,
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    Client::try_from(config).context("no client for the API server")
}

/// Why a claim could not be read. The texts land in events of pods.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClaimReadError {
    #[error("claim {0} does not exist any more; the pod must be made anew")]
    Deleted(String),
    #[error("the agent may not read claim {0}; check the RBAC rules of its service account")]
    Forbidden(String),
    #[error("the API server did not answer for claim {0} within 10 s; the kubelet tries again")]
    Timeout(String),
    #[error("claim {claim} cannot be read from the API server: {reason}; the kubelet tries again")]
    Other { claim: String, reason: String },
}

/// Reads one claim by name. Nodes never list or watch claims: there may be 15,000 nodes.
pub(crate) async fn claim(client: &Client, namespace: &str, name: &str) -> Result<ClaimObject, ClaimReadError> {
    let path = ResourceClaim::url_path(&(), Some(namespace));
    let get = async {
        let get = kube::core::Request::new(path).get(name, &GetParams::default());
        client.request(get.map_err(kube::Error::BuildRequest)?).await
    };
    let full_name = || format!("{namespace}/{name}");
    match tokio::time::timeout(CLAIM_TIMEOUT, get).await {
        Err(_) => Err(ClaimReadError::Timeout(full_name())),
        Ok(Ok(claim)) => Ok(claim),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Err(ClaimReadError::Deleted(full_name())),
        Ok(Err(kube::Error::Api(status))) if status.code == 403 => Err(ClaimReadError::Forbidden(full_name())),
        Ok(Err(error)) => Err(ClaimReadError::Other { claim: full_name(), reason: brief(&error) }),
    }
}

/// The node as it is now; its UID changes when the object is deleted and made anew.
pub(crate) async fn node(client: &Client, name: &str) -> Result<NodeIdentity, kube::Error> {
    let node = Api::<Node>::all(client.clone()).get_metadata(name).await?;
    Ok(NodeIdentity { name: name.to_owned(), uid: node.metadata.uid.unwrap_or_default() })
}

/// The labels of the node.
pub(crate) async fn node_labels(client: &Client, name: &str) -> Result<BTreeMap<String, String>, kube::Error> {
    let node = Api::<Node>::all(client.clone()).get_metadata(name).await?;
    Ok(node.metadata.labels.unwrap_or_default())
}

/// An error of the client with its causes, cut to what an event can hold.
pub(crate) fn brief(error: &kube::Error) -> String {
    let mut text = match error {
        // What the server said; the whole of its status is long and for machines.
        kube::Error::Api(status) => format!("{} ({} {})", status.message, status.code, status.reason),
        _ => error.to_string(),
    };
    let mut source = std::error::Error::source(error).filter(|_| !matches!(error, kube::Error::Api(_)));
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text.chars().take(120).collect()
}

/// The same of a watch: what the server said, where it said something.
pub(crate) fn brief_of_watch(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => brief(error),
        error => error.to_string(),
    }
}
