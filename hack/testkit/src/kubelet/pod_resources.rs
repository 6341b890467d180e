//! The kubelet's pod resources service (v1): who on the node uses which device.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tessera_kubelet_api::pod_resources_v1::pod_resources_lister_server::{
    PodResourcesLister, PodResourcesListerServer,
};
use tessera_kubelet_api::pod_resources_v1::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ContainerDevices, GetPodResourcesRequest,
    GetPodResourcesResponse, ListPodResourcesRequest, ListPodResourcesResponse,
};
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};

use super::active_pods::ActivePod;
use crate::unix_server::{UnixServer, remove};

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
    serving: Mutex<Option<UnixServer>>,
}

struct Table {
    pods: BTreeMap<(String, String), ActivePod>,
    /// Whether the kubelet has heard yet which pods there are.
    learned: bool,
    /// The ids of healthy devices, by the resource.
    allocatable: BTreeMap<String, Vec<String>>,
    listing: Listing,
    lists: usize,
    tokens: f64,
    counted: Instant,
}

impl PodResources {
    /// Serves nothing before [`PodResources::begin`].
    pub(super) fn new(kubelet_dir: &Path) -> Self {
        let table = Table {
            pods: BTreeMap::new(),
            learned: false,
            allocatable: BTreeMap::new(),
            listing: Listing::Answers,
            lists: 0,
            tokens: CALLS_AT_ONCE,
            counted: Instant::now(),
        };
        Self {
            socket: kubelet_dir.join("pod-resources/kubelet.sock"),
            shared: Arc::new(Mutex::new(table)),
            serving: Mutex::default(),
        }
    }

    /// Serves again, or for the first time. A kubelet that starts knows no pods, so none are listed for now.
    pub(super) fn begin(&self) {
        let listing = {
            let mut table = self.table();
            table.learned = false;
            table.listing
        };
        self.behave(listing);
    }

    /// The pods are known from now on.
    pub(super) fn learn_pods(&self) {
        self.table().learned = true;
    }

    /// Ends serving, as a kubelet that ends: the socket's file stays.
    pub(super) fn end(&self) {
        self.serving().take();
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

    /// Tells of the healthy devices of somebody's device plugin from now on; of none, that it has ended.
    pub fn allocatable(&self, resource: &str, ids: &[String]) {
        self.table().allocatable.insert(resource.to_owned(), ids.to_vec());
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
        match listing {
            Listing::Absent => {
                self.end();
                remove(&self.socket);
            }
            Listing::Stale => self.end(),
            Listing::Answers | Listing::Fails(_) | Listing::Hangs => {
                let service = PodResourcesListerServer::new(Service(Arc::clone(&self.shared)));
                let serve = || UnixServer::start(&self.socket, Server::builder().add_service(service));
                self.serving().get_or_insert_with(serve);
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serving(&self) -> MutexGuard<'_, Option<UnixServer>> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn pods(&self) -> impl Iterator<Item = &ActivePod> {
        self.pods.values().filter(|_| self.learned)
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
        let pod_resources = self.table().pods().map(ActivePod::message).collect();
        Ok(Response::new(ListPodResourcesResponse { pod_resources }))
    }

    /// What there is by device plugins; of processors and memory nothing is said.
    async fn get_allocatable_resources(
        &self,
        _: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        self.admit().await?;
        let of_resource = |(resource, ids): (&String, &Vec<String>)| ContainerDevices {
            resource_name: resource.clone(),
            device_ids: ids.clone(),
            ..ContainerDevices::default()
        };
        let devices = self.table().allocatable.iter().map(of_resource).collect();
        Ok(Response::new(AllocatableResourcesResponse { devices, ..AllocatableResourcesResponse::default() }))
    }

    async fn get(&self, request: Request<GetPodResourcesRequest>) -> Result<Response<GetPodResourcesResponse>, Status> {
        self.admit().await?;
        let GetPodResourcesRequest { pod_name, pod_namespace } = request.into_inner();
        let named = (pod_namespace.clone(), pod_name.clone());
        let pod = self.table().pods().find(|pod| pod.key() == named).map(ActivePod::message);
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

    /// The names that a client is told within a second, or how that ends.
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
        tokio::time::timeout(Duration::from_secs(1), call).await.unwrap_or_else(|_| Err("no answer".to_owned()))
    }

    #[tokio::test]
    async fn lists_active_pods_or_does_what_the_test_wants() {
        let directory = tempfile::tempdir().unwrap();
        let service = PodResources::new(directory.path());
        service.begin();
        service.learn_pods();
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
            assert_listed(&service, &expected).await;
        }
    }

    /// In the end: a runtime that was shut down may live for another moment, and a busy machine may be slow.
    async fn assert_listed(service: &PodResources, expected: &Result<Vec<String>, String>) {
        let mut found = listed(service.socket()).await;
        for _ in 0..20 {
            if found == *expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            found = listed(service.socket()).await;
        }
        assert_eq!(found, *expected);
    }

    #[tokio::test]
    async fn a_kubelet_that_starts_knows_no_pods() {
        let directory = tempfile::tempdir().unwrap();
        let service = PodResources::new(directory.path());
        service.list(ActivePod::new("one"));
        for _ in 0..2 {
            service.begin();
            assert_listed(&service, &Ok(Vec::new())).await;
            service.learn_pods();
            assert_listed(&service, &Ok(vec!["one".to_owned()])).await;
            service.end();
        }
    }

    #[tokio::test]
    async fn too_many_calls_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let service = PodResources::new(directory.path());
        let inside = Service(Arc::clone(&service.shared));
        for _ in 0..100_000 {
            if let Err(status) = inside.admit().await {
                return assert_eq!(status.code(), Code::ResourceExhausted);
            }
        }
        panic!("100,000 calls in a row");
    }
}
