//! The way to the API server.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use kube::api::{DeleteParams, Preconditions};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A call that takes longer is given up: the client itself would wait for ever.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// Whose fields the API server takes them for that the controller writes: of all replicas, since one continues what another one
/// began.
pub(crate) const MANAGER: &str = "tessera-controller";

/// A client from a kubeconfig file, or from the environment. Does not connect yet.
pub(crate) async fn client(kubeconfig: Option<&Path>) -> anyhow::Result<Client> {
    let mut config = match kubeconfig {
        Some(path) => {
            let unusable = || format!("--kubeconfig {} cannot be used", path.display());
            let kubeconfig = Kubeconfig::read_from(path).with_context(unusable)?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.with_context(unusable)?
        }
        None => Config::infer().await.context(
            "no way to the API server: give --kubeconfig, set KUBECONFIG, or run in a pod with a service account",
        )?,
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    Client::try_from(config).context("no client for the API server")
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("the API server did not answer within {} s", CALL_TIMEOUT.as_secs())]
    Timeout,
    #[error("{}", brief(.0))]
    Refused(#[source] kube::Error),
}

impl CallError {
    /// Whether somebody else has changed or removed the object: what is known of it is old, and news are on their way.
    pub(crate) fn is_outdated(&self) -> bool {
        matches!(self, Self::Refused(kube::Error::Api(status)) if [404, 409].contains(&status.code))
    }
}

/// Deletes an object only while it is this one, in this version.
pub(crate) fn only(uid: Option<String>, resource_version: Option<String>) -> DeleteParams {
    DeleteParams { preconditions: Some(Preconditions { uid, resource_version }), ..DeleteParams::default() }
}

/// Makes a call that ends.
pub(crate) async fn call<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, CallError> {
    tokio::time::timeout(CALL_TIMEOUT, call).await.map_err(|_| CallError::Timeout)?.map_err(CallError::Refused)
}

/// What the server said; the whole of its status is long and for machines. Else the error with its causes.
pub(crate) fn brief(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} ({} {})", status.message, status.code, status.reason);
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
