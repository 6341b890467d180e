use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tessera_device_plugin::ResourceName;
use tessera_kubelet_api::device_plugin_v1beta1::RegisterRequest;
use tessera_kubelet_api::device_plugin_v1beta1::device_plugin_server::DevicePluginServer;
use tessera_kubelet_api::device_plugin_v1beta1::registration_client::RegistrationClient;
use tessera_kubelet_api::names::DEVICE_PLUGIN_VERSION;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Endpoint, Server};
use tracing::{debug, info, warn};

use super::desk::Desk;
use super::service::{OPTIONS, Service};
use crate::sockets::{PATH_BYTES, Socket, SocketError};

/// The socket on which the kubelet is told of device plugins.
pub(super) const KUBELET: &str = "kubelet.sock";
/// How often is looked whether the kubelet has started anew: it removes every socket of its directory then, and says
/// nothing.
const LOOK: Duration = Duration::from_millis(200);
/// After this pause what failed is tried again.
const PAUSE: Duration = Duration::from_secs(1);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The sockets of all resources, each a device plugin of its own to the kubelet.
pub(super) struct Endpoints {
    desk: Arc<Desk>,
    directory: PathBuf,
    /// What tells this process's sockets from those of others, also of one with the same process id in another container.
    process: u32,
    /// Each socket has a name of its own: kubelets from 1.37 on refuse one that they are connected to.
    number: AtomicU64,
}

/// Why a resource could not be registered.
#[derive(Debug, thiserror::Error)]
enum RegisterError {
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("the kubelet's {}: {source}", socket.display())]
    Connect { socket: PathBuf, source: tonic::transport::Error },
    #[error("the kubelet refused it: {}", .0.message())]
    Refused(Box<tonic::Status>),
}

impl Endpoints {
    pub(super) fn new(desk: Arc<Desk>, directory: PathBuf, instance: Option<&str>) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let process = format!("{} {} {instance:?}", std::process::id(), started.as_nanos());
        Self { desk, directory, process: crc32fast::hash(process.as_bytes()), number: AtomicU64::new(0) }
    }

    /// Serves each resource that is offered for as long as it is, until stopped.
    pub(super) async fn serve(self, stop: CancellationToken) {
        let all = Arc::new(self);
        let mut offered = all.desk.offered();
        let mut served: BTreeMap<ResourceName, CancellationToken> = BTreeMap::new();
        let mut tasks = JoinSet::new();
        loop {
            let names: Vec<_> = offered.borrow_and_update().offer.resources.keys().cloned().collect();
            served.retain(|name, ended| {
                let stays = names.contains(name);
                if !stays {
                    info!(resource = %name, "no longer offered");
                    ended.cancel();
                }
                stays
            });
            for name in names {
                served.entry(name.clone()).or_insert_with(|| {
                    let ended = stop.child_token();
                    tasks.spawn(Arc::clone(&all).keep(name, ended.clone()));
                    ended
                });
            }
            tokio::select! {
                () = stop.cancelled() => break,
                changed = offered.changed() => if changed.is_err() { break },
                Some(_) = tasks.join_next() => {}
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Keeps a resource registered with whichever kubelet is there.
    async fn keep(self: Arc<Self>, resource: ResourceName, stop: CancellationToken) {
        let mut told = String::new();
        while !stop.is_cancelled() {
            let kubelet = self.directory.join(KUBELET);
            let Some(life) = identity(&kubelet) else {
                stop.run_until_cancelled(tokio::time::sleep(LOOK)).await;
                continue;
            };
            let reason = match self.register(&resource, &kubelet, life, &stop).await {
                Ok(()) => String::new(),
                Err(error) => {
                    stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
                    error.to_string()
                }
            };
            if !reason.is_empty() && reason != told {
                warn!(%resource, error = reason, "not registered with the kubelet; trying again");
            }
            told = reason;
        }
    }

    /// Serves a resource on a fresh socket and tells the kubelet of it, until this kubelet ends, or its directory is cleared.
    async fn register(
        &self,
        resource: &ResourceName,
        kubelet: &Path,
        life: (u64, u64, i64),
        stop: &CancellationToken,
    ) -> Result<(), RegisterError> {
        let mut socket = Socket::bind(self.fresh(resource))?;
        let ended = stop.child_token();
        let service = Service { desk: Arc::clone(&self.desk), resource: resource.clone(), stop: ended.clone() };
        let serving = Server::builder()
            .add_service(DevicePluginServer::new(service))
            .serve_with_incoming_shutdown(socket.connections(), ended.clone().cancelled_owned());
        let registering = async {
            let registered = announce(resource, kubelet, socket.path()).await;
            if registered.is_ok() {
                info!(%resource, socket = %socket.path().display(), "registered with the kubelet");
                while identity(kubelet) == Some(life) && socket.path().exists() {
                    if ended.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
                        break;
                    }
                }
            }
            ended.cancel();
            registered
        };
        let (served, registered) = tokio::join!(serving, registering);
        if let Err(error) = served {
            debug!(%resource, %error, "the socket of a device plugin failed");
        }
        registered
    }

    /// A path that no socket had before.
    fn fresh(&self, resource: &ResourceName) -> PathBuf {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let path = |begin: &str| self.directory.join(format!("{begin}-{:08x}-{number}.sock", self.process));
        let named = path(&resource.as_str().replace('/', "_"));
        if named.as_os_str().len() <= PATH_BYTES {
            return named;
        }
        path(&format!("{:08x}", crc32fast::hash(resource.as_str().as_bytes())))
    }
}

/// Tells the kubelet of a resource: it connects to the socket at once.
async fn announce(resource: &ResourceName, kubelet: &Path, socket: &Path) -> Result<(), RegisterError> {
    let failed = |source| RegisterError::Connect { socket: kubelet.to_owned(), source };
    let endpoint = Endpoint::from_shared(format!("unix://{}", kubelet.display())).map_err(failed)?;
    let channel = endpoint.timeout(CALL_TIMEOUT).connect_timeout(CALL_TIMEOUT).connect().await.map_err(failed)?;
    let request = RegisterRequest {
        version: DEVICE_PLUGIN_VERSION.to_owned(),
        endpoint: socket.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        resource_name: resource.to_string(),
        options: Some(OPTIONS),
    };
    let answer = RegistrationClient::new(channel).register(request).await;
    answer.map(|_| ()).map_err(|status| RegisterError::Refused(Box::new(status)))
}

/// Which file it is: a kubelet that starts makes its socket anew. Inodes are used again, so the time counts too.
fn identity(path: &Path) -> Option<(u64, u64, i64)> {
    let data = std::fs::symlink_metadata(path).ok()?;
    Some((data.dev(), data.ino(), data.ctime_nsec() ^ data.ctime()))
}
