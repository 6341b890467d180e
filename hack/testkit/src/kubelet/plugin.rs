//! The kubelet's calls to a plugin.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tessera_kubelet_api::dra_v1::dra_plugin_client::DraPluginClient as DraV1;
use tessera_kubelet_api::dra_v1beta1::dra_plugin_client::DraPluginClient as DraV1Beta1;
use tessera_kubelet_api::health_v1::dra_resource_health_client::DraResourceHealthClient as HealthV1;
use tessera_kubelet_api::health_v1alpha1::dra_resource_health_client::DraResourceHealthClient as HealthV1Alpha1;
use tessera_kubelet_api::{dra_v1, dra_v1beta1, health_v1, health_v1alpha1};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use crate::Claim;

/// The deadline that the kubelet gives a call.
const DEADLINE: Duration = Duration::from_secs(45);

/// A connection to a plugin's DRA socket, with the authority that the kubelet uses there. It connects anew by itself.
#[derive(Clone, Debug)]
pub struct Plugin {
    channel: Channel,
}

/// What came of preparing one claim: devices, or the reason why not.
pub type Prepared = Result<Vec<dra_v1::Device>, String>;

impl Plugin {
    /// Connects.
    ///
    /// # Panics
    /// When nobody serves the socket.
    pub async fn connect(socket: &Path) -> Self {
        let socket = socket.to_owned();
        let connector = tower::service_fn(move |_| connection(socket.clone()));
        let endpoint = Endpoint::from_static("http://localhost").timeout(DEADLINE);
        Self { channel: endpoint.connect_with_connector(connector).await.expect("a served DRA socket") }
    }

    /// Prepares claims in one call, by v1. Results by claim UID.
    ///
    /// # Errors
    /// When the call as a whole fails.
    pub async fn prepare_all(&self, claims: &[&Claim]) -> Result<BTreeMap<String, Prepared>, Status> {
        let claims = claims.iter().map(|claim| dra_v1::Claim {
            namespace: claim.namespace.clone(),
            uid: claim.uid.clone(),
            name: claim.name.clone(),
        });
        let request = dra_v1::NodePrepareResourcesRequest { claims: claims.collect() };
        let response = DraV1::new(self.channel.clone()).node_prepare_resources(request).await?.into_inner();
        let result = |answer: dra_v1::NodePrepareResourceResponse| match answer.error.is_empty() {
            true => Ok(answer.devices),
            false => Err(answer.error),
        };
        Ok(response.claims.into_iter().map(|(uid, answer)| (uid, result(answer))).collect())
    }

    /// Prepares one claim, by v1.
    ///
    /// # Errors
    /// The reason in the answer.
    ///
    /// # Panics
    /// When the call fails or does not answer for the claim.
    pub async fn prepare(&self, claim: &Claim) -> Prepared {
        let mut answers = self.prepare_all(&[claim]).await.expect("NodePrepareResources");
        answers.remove(&claim.uid).expect("an answer for the claim")
    }

    /// Unprepares claims in one call, by v1. Results by claim UID.
    ///
    /// # Errors
    /// When the call as a whole fails.
    pub async fn unprepare_all(&self, claims: &[&Claim]) -> Result<BTreeMap<String, Result<(), String>>, Status> {
        let claims = claims.iter().map(|claim| dra_v1::Claim {
            namespace: claim.namespace.clone(),
            uid: claim.uid.clone(),
            name: claim.name.clone(),
        });
        let request = dra_v1::NodeUnprepareResourcesRequest { claims: claims.collect() };
        let response = DraV1::new(self.channel.clone()).node_unprepare_resources(request).await?.into_inner();
        let result = |error: String| if error.is_empty() { Ok(()) } else { Err(error) };
        Ok(response.claims.into_iter().map(|(uid, answer)| (uid, result(answer.error))).collect())
    }

    /// Unprepares one claim, by v1.
    ///
    /// # Errors
    /// The reason in the answer.
    ///
    /// # Panics
    /// When the call fails or does not answer for the claim.
    pub async fn unprepare(&self, claim: &Claim) -> Result<(), String> {
        let mut answers = self.unprepare_all(&[claim]).await.expect("NodeUnprepareResources");
        answers.remove(&claim.uid).expect("an answer for the claim")
    }

    /// A client of v1, for what the methods above do not say.
    pub fn v1(&self) -> DraV1<Channel> {
        DraV1::new(self.channel.clone())
    }

    /// A client of v1beta1.
    pub fn v1beta1(&self) -> DraV1Beta1<Channel> {
        DraV1Beta1::new(self.channel.clone())
    }

    /// Prepares one claim, by v1beta1.
    ///
    /// # Errors
    /// The reason in the answer.
    ///
    /// # Panics
    /// When the call fails or does not answer for the claim.
    pub async fn prepare_v1beta1(&self, claim: &Claim) -> Result<Vec<dra_v1beta1::Device>, String> {
        let Claim { namespace, name, uid, .. } = claim.clone();
        let request =
            dra_v1beta1::NodePrepareResourcesRequest { claims: vec![dra_v1beta1::Claim { namespace, uid, name }] };
        let mut response =
            self.v1beta1().node_prepare_resources(request).await.expect("NodePrepareResources").into_inner();
        let answer = response.claims.remove(&claim.uid).expect("an answer for the claim");
        if answer.error.is_empty() { Ok(answer.devices) } else { Err(answer.error) }
    }

    /// The health stream of v1.
    ///
    /// # Panics
    /// When the plugin does not serve it.
    pub async fn health(&self) -> Streaming<health_v1::NodeWatchResourcesResponse> {
        let request = health_v1::NodeWatchResourcesRequest {};
        HealthV1::new(self.channel.clone())
            .node_watch_resources(request)
            .await
            .expect("NodeWatchResources")
            .into_inner()
    }

    /// The health stream of v1alpha1.
    ///
    /// # Panics
    /// When the plugin does not serve it.
    pub async fn health_v1alpha1(&self) -> Streaming<health_v1alpha1::NodeWatchResourcesResponse> {
        let request = health_v1alpha1::NodeWatchResourcesRequest {};
        HealthV1Alpha1::new(self.channel.clone())
            .node_watch_resources(request)
            .await
            .expect("NodeWatchResources")
            .into_inner()
    }
}

async fn connection(socket: PathBuf) -> std::io::Result<TokioIo<UnixStream>> {
    UnixStream::connect(socket).await.map(TokioIo::new)
}
