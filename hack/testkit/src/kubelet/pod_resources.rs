//! The kubelet's pod resources service (v1): who on the node uses which device.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tessera_kubelet_api::pod_resources_v1::pod_resources_lister_server::{
    PodResourcesLister, PodResourcesListerServer,
};
use tessera_kubelet_api::pod_resources_v1::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, GetPodResourcesRequest, GetPodResourcesResponse,
    ListPodResourcesRequest, ListPodResourcesResponse,
};
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};

use super::active_pods::ActivePod;

/// Calls a second, and calls at once, that the kubelet takes; it refuses what is more
/// (`pkg/kubelet/apis/podresources/constants.go`).
const CALLS_A_SECOND: f64 = 100.0;
const CALLS_AT_ONCE: f64 = 10.0;

/// What the service does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// It answers.
    Answers,
    /// It fails with this code.
    Fails(Code),
    /// It never answers.
    Hangs,
    /// There is no socket, as with a kubelet whose directory is not mounted.
    Absent,
    /// The socket is there and nobody serves it, as while the kubelet is down.
    Stale,
}

/// The service, on `pod-resources/kubelet.sock` below a kubelet's directory. It lists what it is told to.
pub struct PodResources {
    socket: PathBuf,
    shared: Arc<Mutex<Table>>,
    /// A runtime of its own, so that its end is also that of every connection.
    serving: Mutex<Option<Runtime>>,
}

struct Table {
    pods: BTreeMap<(String, String), ActivePod>,
    listing: Listing,
    lists: usize,
    tokens: f64,
    counted: Instant,
}

impl PodResources {
    /// Starts to serve.
    pub(super) fn start(kubelet_dir: &Path) -> Self {
        let table = Table {
            pods: BTreeMap::new(),
            listing: Listing::Stale,
            lists: 0,
            tokens: CALLS_AT_ONCE,
            counted: Instant::now(),
        };
        let service = Self {
            socket: kubelet_dir.join("pod-resources/kubelet.sock"),
            shared: Arc::new(Mutex::new(table)),
            serving: Mutex::default(),
        };
        service.behave(Listing::Answers);
        service
    }

    /// Where it is served.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Lists a pod from now on, in the place of one with the same name.
    pub fn list(&self, pod: ActivePod) {
        self.table().pods.insert(pod.key(), pod);
    }

    /// Lists a pod no more: it has ended, or was deleted by force while its containers may still run.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.table().pods.remove(&(namespace.to_owned(), name.to_owned()));
    }

    /// How many List calls have come in, whatever became of them.
    pub fn lists(&self) -> usize {
        self.table().lists
    }

    /// Does something else with calls from now on.
    ///
    /// # Panics
    /// When the socket cannot be made or removed.
    pub fn behave(&self, listing: Listing) {
        self.table().listing = listing;
        let mut serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(listing, Listing::Absent | Listing::Stale) {
            if let Some(serving) = serving.take() {
                // From an async test, where a runtime must not be waited for.
                serving.shutdown_background();
            }
            if listing == Listing::Absent {
                remove(&self.socket);
            }
        } else if serving.is_none() {
            *serving = Some(serve(&self.socket, Service(Arc::clone(&self.shared))));
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PodResources {
    /// As a kubelet that ends: the socket's file stays.
    fn drop(&mut self) {
        self.behave(Listing::Stale);
    }
}

/// In the place of a socket that an earlier kubelet left.
fn serve(socket: &Path, service: Service) -> Runtime {
    fs::create_dir_all(socket.parent().expect("a socket lies in a directory")).expect("the directory of the socket");
    remove(socket);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = {
        let _inside = runtime.enter();
        UnixListener::bind(socket).expect("a socket for pod resources")
    };
    let router = Server::builder().add_service(PodResourcesListerServer::new(service));
    runtime.spawn(router.serve_with_incoming(UnixListenerStream::new(listener)));
    runtime
}

fn remove(socket: &Path) {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{}: {error}", socket.display()),
        _ => {}
    }
}

struct Service(Arc<Mutex<Table>>);

impl Service {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a call through, or does with it what the test wants.
    async fn admit(&self) -> Result<(), Status> {
        let listing = {
            let mut table = self.table();
            let elapsed = table.counted.elapsed().as_secs_f64();
            table.counted = Instant::now();
            table.tokens = (table.tokens + elapsed * CALLS_A_SECOND).min(CALLS_AT_ONCE);
            if table.tokens < 1.0 {
                return Err(Status::resource_exhausted("rejected by rate limit"));
            }
            table.tokens -= 1.0;
            table.listing
        };
        match listing {
            Listing::Fails(code) => Err(Status::new(code, "ordered by the test")),
            Listing::Hangs => std::future::pending().await,
            Listing::Answers | Listing::Absent | Listing::Stale => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl PodResourcesLister for Service {
    async fn list(&self, _: Request<ListPodResourcesRequest>) -> Result<Response<ListPodResourcesResponse>, Status> {
        self.table().lists += 1;
        self.admit().await?;
        let pod_resources = self.table().pods.values().map(ActivePod::message).collect();
        Ok(Response::new(ListPodResourcesResponse { pod_resources }))
    }

    /// What the node has in all is for device plugins; this kubelet has none.
    async fn get_allocatable_resources(
        &self,
        _: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        self.admit().await?;
        Ok(Response::new(AllocatableResourcesResponse::default()))
    }

    async fn get(&self, request: Request<GetPodResourcesRequest>) -> Result<Response<GetPodResourcesResponse>, Status> {
        self.admit().await?;
        let GetPodResourcesRequest { pod_name, pod_namespace } = request.into_inner();
        let pod = self.table().pods.get(&(pod_namespace.clone(), pod_name.clone())).map(ActivePod::message);
        let pod =
            pod.ok_or_else(|| Status::unknown(format!("pod {pod_name} in namespace {pod_namespace} not found")))?;
        Ok(Response::new(GetPodResourcesResponse { pod_resources: Some(pod) }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper_util::rt::TokioIo;
    use tessera_kubelet_api::pod_resources_v1::pod_resources_lister_client::PodResourcesListerClient;
    use tokio::net::UnixStream;
    use tonic::transport::Endpoint;

    use super::*;

    /// The names that a client is told within a quarter of a second, or how that ends.
    async fn listed(socket: &Path) -> Result<Vec<String>, String> {
        let socket = socket.to_owned();
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let call = async {
            let channel = Endpoint::from_static("http://localhost").connect_with_connector(connector).await;
            let mut client = PodResourcesListerClient::new(channel.map_err(|_| "no connection".to_owned())?);
            let answer = client.list(ListPodResourcesRequest {}).await;
            let pods = answer.map_err(|status| status.code().to_string())?.into_inner().pod_resources;
            Ok(pods.into_iter().map(|pod| pod.name).collect())
        };
        tokio::time::timeout(Duration::from_millis(250), call).await.unwrap_or_else(|_| Err("no answer".to_owned()))
    }

    #[tokio::test]
    async fn lists_active_pods_or_does_what_the_test_wants() {
        let directory = tempfile::tempdir().unwrap();
        let service = PodResources::start(directory.path());
        service.list(ActivePod::new("one"));
        service.list(ActivePod::new("two"));
        service.forget("team", "one");
        for (listing, expected) in [
            (Listing::Fails(Code::Internal), Err(Code::Internal.to_string())),
            (Listing::Hangs, Err("no answer".to_owned())),
            (Listing::Absent, Err("no connection".to_owned())),
            (Listing::Stale, Err("no connection".to_owned())),
            (Listing::Answers, Ok(vec!["two".to_owned()])),
        ] {
            service.behave(listing);
            // What was aborted may live until its task is looked at again.
            let mut found = listed(service.socket()).await;
            for _ in 0..40 {
                if found == expected {
                    break;
                }
                found = listed(service.socket()).await;
            }
            assert_eq!(found, expected, "{listing:?}");
        }
    }

    #[tokio::test]
    async fn too_many_calls_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let service = PodResources::start(directory.path());
        let inside = Service(Arc::clone(&service.shared));
        for _ in 0..100_000 {
            if let Err(status) = inside.admit().await {
                return assert_eq!(status.code(), Code::ResourceExhausted);
            }
        }
        panic!("100,000 calls in a row");
    }
}
