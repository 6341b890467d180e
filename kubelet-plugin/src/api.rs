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

/// So often everybody else has to have been let run until a question has left: the client's queue and the task of a connection
/// each take it on.
const UNTIL_SENT: usize = 4;

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

/// Does what can be done while an answer is awaited. There is one thread, so the question has to be on its way first.
pub(crate) async fn meanwhile<T>(question: impl Future<Output = T>, work: impl FnOnce()) -> T {
    let work = async {
        for _ in 0..UNTIL_SENT {
            tokio::task::yield_now().await;
        }
        work();
    };
    // Whoever takes the question on wakes this task: then it goes on first.
    tokio::join!(biased; question, work).0
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// Reads one request, and answers that there is no such claim.
    fn refuse(connection: &mut TcpStream) {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut bytes = [0; 1024];
            let length = connection.read(&mut bytes).unwrap();
            request.extend_from_slice(&bytes[..length]);
        }
        let status = r#"{"kind": "Status", "code": 404, "status": "Failure", "message": "no", "reason": "NotFound"}"#;
        let answer = format!(
            "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{status}",
            status.len()
        );
        connection.write_all(answer.as_bytes()).unwrap();
    }

    #[tokio::test]
    async fn a_question_has_left_when_work_is_done_meanwhile() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, connection) = mpsc::channel();
        let (worked, work) = mpsc::channel();
        let server = thread::spawn(move || {
            let mut connection = listener.accept().unwrap().0;
            accepted.send(connection.try_clone().unwrap()).unwrap();
            for () in work {
                refuse(&mut connection);
            }
        });
        let client = Client::try_from(Config::new(format!("http://{address}").parse().unwrap())).unwrap();
        // The first one makes the connection, too.
        worked.send(()).unwrap();
        let found = claim(&client, "team", "first").await;
        assert!(matches!(found, Err(ClaimReadError::Deleted(_))), "{found:?}");
        let connection = connection.recv().unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        for _ in 0..8 {
            let found = meanwhile(claim(&client, "team", "next"), || {
                // This waits, and keeps everything else of this thread waiting.
                let has_come = connection.peek(&mut [0]);
                assert!(matches!(has_come, Ok(1)), "{has_come:?}");
                worked.send(()).unwrap();
            });
            let found = found.await;
            assert!(matches!(found, Err(ClaimReadError::Deleted(_))), "{found:?}");
        }
        drop((worked, client));
        server.join().unwrap();
    }
}
