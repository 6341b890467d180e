//! The kubelet's calls to a plugin.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use tessera_kubelet_api::dra_v1::dra_plugin_client::DraPluginClient as DraV1;
use tessera_kubelet_api::dra_v1beta1::dra_plugin_client::DraPluginClient as DraV1Beta1;
use tessera_kubelet_api::health_v1::dra_resource_health_client::DraResourceHealthClient as HealthV1;
use tessera_kubelet_api::health_v1alpha1::dra_resource_health_client::DraResourceHealthClient as HealthV1Alpha1;
use tessera_kubelet_api::{dra_v1, dra_v1beta1, health_v1, health_v1alpha1};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use super::pace::OPERATION;
use crate::Claim;

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
        let endpoint = Endpoint::from_static("http://localhost").timeout(OPERATION);
        Self { channel: endpoint.connect_with_connector(connector).await.expect("a served DRA socket") }
    }

    /// Uses a connection that somebody else keeps.
    pub(super) fn over(channel: Channel) -> Self {
        Self { channel }
    }

    /// Prepares claims in one call, by v1. Results by claim UID.
    ///
    /// # Errors
    /// When the call as a whole fails.
    pub async fn prepare_all(&self, claims: &[&Claim]) -> Result<BTreeMap<String, Prepared>, Status> {
        self.prepare_by_v1(named(claims)).await
    }

    pub(super) async fn prepare_by_v1(&self, claims: Vec<dra_v1::Claim>) -> Result<BTreeMap<String, Prepared>, Status> {
        let request = dra_v1::NodePrepareResourcesRequest { claims };
        let response = self.v1().node_prepare_resources(request).await?.into_inner();
        let answers = response.claims.into_iter();
        Ok(answers.map(|(uid, answer)| (uid, result(answer.devices, answer.error))).collect())
    }

    pub(super) async fn prepare_by_v1beta1(
        &self,
        claims: Vec<dra_v1::Claim>,
    ) -> Result<BTreeMap<String, Prepared>, Status> {
        let request = dra_v1beta1::NodePrepareResourcesRequest { claims: older(claims) };
        let response = self.v1beta1().node_prepare_resources(request).await?.into_inner();
        let answers = response.claims.into_iter().map(|(uid, answer)| {
            let devices = answer.devices.into_iter().map(newer).collect();
            (uid, result(devices, answer.error))
        });
        Ok(answers.collect())
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
        self.unprepare_by_v1(named(claims)).await
    }

    pub(super) async fn unprepare_by_v1(
        &self,
        claims: Vec<dra_v1::Claim>,
    ) -> Result<BTreeMap<String, Result<(), String>>, Status> {
        let request = dra_v1::NodeUnprepareResourcesRequest { claims };
        let response = self.v1().node_unprepare_resources(request).await?.into_inner();
        Ok(response.claims.into_iter().map(|(uid, answer)| (uid, result((), answer.error))).collect())
    }

    pub(super) async fn unprepare_by_v1beta1(
        &self,
        claims: Vec<dra_v1::Claim>,
    ) -> Result<BTreeMap<String, Result<(), String>>, Status> {
        let request = dra_v1beta1::NodeUnprepareResourcesRequest { claims: older(claims) };
        let response = self.v1beta1().node_unprepare_resources(request).await?.into_inner();
        Ok(response.claims.into_iter().map(|(uid, answer)| (uid, result((), answer.error))).collect())
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

/// The claims as v1 names them.
fn named(claims: &[&Claim]) -> Vec<dra_v1::Claim> {
    let name = |claim: &&Claim| {
        let Claim { namespace, uid, name, .. } = (*claim).clone();
        dra_v1::Claim { namespace, uid, name }
    };
    claims.iter().map(name).collect()
}

/// The claims as v1beta1 names them.
fn older(claims: Vec<dra_v1::Claim>) -> Vec<dra_v1beta1::Claim> {
    let older = |dra_v1::Claim { namespace, uid, name }| dra_v1beta1::Claim { namespace, uid, name };
    claims.into_iter().map(older).collect()
}

/// A device of v1beta1, which knows no shares.
fn newer(device: dra_v1beta1::Device) -> dra_v1::Device {
    dra_v1::Device {
        request_names: device.request_names,
        pool_name: device.pool_name,
        device_name: device.device_name,
        cdi_device_ids: device.cdi_device_ids,
        share_id: None,
    }
}

fn result<T>(good: T, error: String) -> Result<T, String> {
    if error.is_empty() { Ok(good) } else { Err(error) }
}

async fn connection(socket: PathBuf) -> std::io::Result<TokioIo<UnixStream>> {
    UnixStream::connect(socket).await.map(TokioIo::new)
}
