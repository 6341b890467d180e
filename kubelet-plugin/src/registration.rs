//! The registration with the kubelet, and the watch over it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tessera_kubelet_api::names::{DRA_PLUGIN_TYPE, SUPPORTED_VERSIONS};
use tessera_kubelet_api::registration::registration_server::{Registration, RegistrationServer};
use tessera_kubelet_api::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, transport::Server};
use tracing::{info, warn};

use crate::sockets::{Socket, SocketError};

/// A kubelet looks at new sockets at once and answers within seconds. Kubelets 1.34 and 1.35 never retry a
/// registration that failed, but they do look at a socket that was made anew.
const CONFIRMATION: Duration = Duration::from_secs(30);

/// What the kubelet is told.
#[derive(Clone, Debug)]
pub(crate) struct Plugin {
    /// The driver's name.
    pub(crate) driver: String,
    /// The DRA socket.
    pub(crate) endpoint: PathBuf,
    /// The registration socket. Its file name must hold an `@`: the kubelet dials it without an authority, so that
    /// grpc-go sends the percent-encoded path as one, which h2 takes only where an `@` makes it a user's name.
    pub(crate) socket: PathBuf,
}

/// Offers the plugin to the kubelet until stopped; `registered` tells whether the kubelet has taken it.
pub(crate) async fn register(
    plugin: Plugin,
    registered: watch::Sender<bool>,
    stop: CancellationToken,
) -> Result<(), SocketError> {
    let registered = Arc::new(registered);
    while !stop.is_cancelled() {
        let mut socket = Socket::bind(plugin.socket.clone())?;
        let connections = socket.connections();
        let renew = stop.child_token();
        let service = Service { plugin: plugin.clone(), registered: Arc::clone(&registered) };
        let serving = Server::builder()
            .add_service(RegistrationServer::new(service))
            .serve_with_incoming_shutdown(connections, renew.clone().cancelled_owned());
        let watching = async {
            if tokio::time::timeout(CONFIRMATION, confirmed(&registered)).await.is_err() {
                warn!(socket = %plugin.socket.display(), "the kubelet has not confirmed the registration; making the socket anew");
                renew.cancel();
            }
            renew.cancelled().await;
        };
        let (served, ()) = tokio::join!(serving, watching);
        if let Err(error) = served {
            warn!(%error, "the registration socket failed; making it anew");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    Ok(())
}

async fn confirmed(registered: &watch::Sender<bool>) {
    // Fails only when the sender is gone, and it is borrowed.
    let _ = registered.subscribe().wait_for(|registered| *registered).await;
}

struct Service {
    plugin: Plugin,
    registered: Arc<watch::Sender<bool>>,
}

#[tonic::async_trait]
impl Registration for Service {
    /// The kubelet waits one second, so nothing is looked up here.
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: DRA_PLUGIN_TYPE.to_owned(),
            name: self.plugin.driver.clone(),
            endpoint: self.plugin.endpoint.to_string_lossy().into_owned(),
            supported_versions: SUPPORTED_VERSIONS.map(str::to_owned).to_vec(),
        }))
    }

    /// Always answered well: a kubelet from 1.36 on deregisters a plugin that fails here.
    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let status = request.into_inner();
        if status.plugin_registered {
            info!(driver = %self.plugin.driver, "registered with the kubelet");
        } else {
            warn!(driver = %self.plugin.driver, error = status.error, "the kubelet refused the registration");
        }
        self.registered.send_replace(status.plugin_registered);
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
