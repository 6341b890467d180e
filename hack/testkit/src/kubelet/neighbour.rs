//! A DRA driver of somebody else on the same node.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tessera_kubelet_api::dra_v1;
use tessera_kubelet_api::dra_v1::dra_plugin_server::{DraPlugin, DraPluginServer};
use tessera_kubelet_api::names;
use tessera_kubelet_api::registration::registration_server::{Registration, RegistrationServer};
use tessera_kubelet_api::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::unix_server::{UnixServer, remove};

/// What a driver does for the kubelet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// NotifyRegistrationStatus.
    Notify,
    /// NodePrepareResources.
    Prepare,
    /// NodeUnprepareResources.
    Unprepare,
}

/// A driver that gives every claim one device and keeps nothing. It fails when told to.
pub struct Neighbour {
    registration: PathBuf,
    endpoint: PathBuf,
    behaviour: Behaviour,
    /// The registration socket and the DRA socket.
    servers: Option<(UnixServer, UnixServer)>,
}

impl Neighbour {
    /// Starts one instance of a driver, of which there may be several.
    pub fn start(kubelet_dir: &Path, driver: &str, instance: &str) -> Self {
        // The `@` makes the path a legal authority, as in the agent's sockets.
        let endpoint = kubelet_dir.join(format!("plugins/{driver}/{instance}@kubelet.sock"));
        let behaviour = Behaviour {
            info: PluginInfo {
                r#type: names::DRA_PLUGIN_TYPE.to_owned(),
                name: driver.to_owned(),
                endpoint: endpoint.to_string_lossy().into_owned(),
                supported_versions: vec![names::DRA_V1.to_owned()],
            },
            failures: Arc::default(),
        };
        let registration = kubelet_dir.join(format!("plugins_registry/{driver}-{instance}-reg@kubelet.sock"));
        let mut neighbour = Self { registration, endpoint, behaviour, servers: None };
        neighbour.restart();
        neighbour
    }

    /// The DRA socket.
    pub fn endpoint(&self) -> &Path {
        &self.endpoint
    }

    /// Fails the next `times` calls of a step.
    pub fn fail(&self, step: Step, times: u32) {
        self.behaviour.failures.lock().unwrap_or_else(PoisonError::into_inner).insert(step, times);
    }

    /// Ends as by a crash: the files of the sockets stay.
    pub fn crash(&mut self) {
        self.servers = None;
    }

    /// Makes both sockets anew.
    pub fn restart(&mut self) {
        self.servers = None;
        let dra = Server::builder().add_service(DraPluginServer::new(self.behaviour.clone()));
        let registration = Server::builder().add_service(RegistrationServer::new(self.behaviour.clone()));
        // In this order: the kubelet connects as soon as it has found the plugin.
        let dra = UnixServer::start(&self.endpoint, dra);
        self.servers = Some((UnixServer::start(&self.registration, registration), dra));
    }
}

impl Drop for Neighbour {
    /// Ends in good order, and is deregistered thereby.
    fn drop(&mut self) {
        remove(&self.registration);
        remove(&self.endpoint);
    }
}

#[derive(Clone)]
struct Behaviour {
    info: PluginInfo,
    failures: Arc<Mutex<BTreeMap<Step, u32>>>,
}

impl Behaviour {
    /// Whether a call goes well.
    fn step(&self, step: Step) -> Result<(), Status> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match failures.get_mut(&step) {
            Some(times) if *times > 0 => {
                *times -= 1;
                Err(Status::internal("ordered by the test"))
            }
            _ => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl Registration for Behaviour {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(self.info.clone()))
    }

    async fn notify_registration_status(
        &self,
        _: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        self.step(Step::Notify)?;
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

#[tonic::async_trait]
impl DraPlugin for Behaviour {
    async fn node_prepare_resources(
        &self,
        request: Request<dra_v1::NodePrepareResourcesRequest>,
    ) -> Result<Response<dra_v1::NodePrepareResourcesResponse>, Status> {
        self.step(Step::Prepare)?;
        let answer = |claim: dra_v1::Claim| {
            let device = dra_v1::Device {
                request_names: Vec::new(),
                pool_name: "any".to_owned(),
                device_name: "device-0".to_owned(),
                cdi_device_ids: vec![format!("{}/device={}", self.info.name, claim.uid)],
                share_id: None,
            };
            let error = String::new();
            (claim.uid, dra_v1::NodePrepareResourceResponse { devices: vec![device], error })
        };
        let claims = request.into_inner().claims.into_iter().map(answer).collect();
        Ok(Response::new(dra_v1::NodePrepareResourcesResponse { claims }))
    }

    async fn node_unprepare_resources(
        &self,
        request: Request<dra_v1::NodeUnprepareResourcesRequest>,
    ) -> Result<Response<dra_v1::NodeUnprepareResourcesResponse>, Status> {
        self.step(Step::Unprepare)?;
        let answer = |claim: dra_v1::Claim| (claim.uid, dra_v1::NodeUnprepareResourceResponse::default());
        let claims = request.into_inner().claims.into_iter().map(answer).collect();
        Ok(Response::new(dra_v1::NodeUnprepareResourcesResponse { claims }))
    }
}
