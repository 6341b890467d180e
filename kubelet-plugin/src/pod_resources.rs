//! What the kubelet says its pods use: its PodResources service.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tessera_core::InUse;
use tessera_kubelet_api::pod_resources_v1::pod_resources_lister_client::PodResourcesListerClient;
use tessera_kubelet_api::pod_resources_v1::{AllocatableResourcesRequest, DynamicResource, ListPodResourcesRequest};
use tessera_vocabulary::DriverName;
use tonic::transport::{Channel, Endpoint};

/// The kubelet answers from memory.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A node with hundreds of pods says more than gRPC's usual 4 MiB.
const LARGEST_ANSWER: usize = 64 << 20;

/// The kubelet's PodResources service.
pub(crate) struct PodResources {
    socket: PathBuf,
}

/// What the kubelet's pods use, of every driver.
#[derive(Clone, Debug)]
pub(crate) struct Listing {
    resources: Vec<DynamicResource>,
    /// The ids that device plugins gave, and the resource of each.
    devices: Vec<(String, String)>,
}

/// Why it could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PodResourcesError {
    #[error("the kubelet's {}: {source}", socket.display())]
    Connect { socket: PathBuf, source: tonic::transport::Error },
    #[error("the kubelet's {}: {}", socket.display(), source.message())]
    Answer { socket: PathBuf, source: Box<tonic::Status> },
}

impl PodResources {
    /// The service of the kubelet with this directory.
    pub(crate) fn new(kubelet: &Path) -> Self {
        Self { socket: kubelet.join("pod-resources/kubelet.sock") }
    }

    /// Connects anew each time, since the kubelet may have been restarted.
    async fn client(&self) -> Result<PodResourcesListerClient<Channel>, PodResourcesError> {
        let failed = |source| PodResourcesError::Connect { socket: self.socket.clone(), source };
        let endpoint = Endpoint::from_shared(format!("unix://{}", self.socket.display())).map_err(failed)?;
        let channel = endpoint.timeout(CALL_TIMEOUT).connect_timeout(CALL_TIMEOUT).connect().await.map_err(failed)?;
        Ok(PodResourcesListerClient::new(channel).max_decoding_message_size(LARGEST_ANSWER))
    }

    fn no_answer(&self, source: tonic::Status) -> PodResourcesError {
        PodResourcesError::Answer { socket: self.socket.clone(), source: Box::new(source) }
    }

    /// The extended resources of which some device plugin has healthy devices now.
    pub(crate) async fn served(&self) -> Result<BTreeSet<String>, PodResourcesError> {
        let answer = self.client().await?.get_allocatable_resources(AllocatableResourcesRequest {}).await;
        let devices = answer.map_err(|source| self.no_answer(source))?.into_inner().devices.into_iter();
        Ok(devices.filter(|devices| !devices.device_ids.is_empty()).map(|devices| devices.resource_name).collect())
    }

    /// What active pods use.
    pub(crate) async fn list(&self) -> Result<Listing, PodResourcesError> {
        let answer = self.client().await?.list(ListPodResourcesRequest {}).await;
        let answer = answer.map_err(|source| self.no_answer(source))?;
        let mut listing = Listing { resources: Vec::new(), devices: Vec::new() };
        for container in answer.into_inner().pod_resources.into_iter().flat_map(|pod| pod.containers) {
            listing.resources.extend(container.dynamic_resources);
            for devices in container.devices {
                let of_resource = devices.device_ids.into_iter().map(|id| (id, devices.resource_name.clone()));
                listing.devices.extend(of_resource);
            }
        }
        Ok(listing)
    }
}

impl Listing {
    /// The ids of what active pods have of all device plugins, each with its resource.
    pub(crate) fn devices(&self) -> impl Iterator<Item = (&str, &str)> {
        self.devices.iter().map(|(id, resource)| (id.as_str(), resource.as_str()))
    }

    /// What active pods use of a driver.
    ///
    /// The names of CDI devices are not looked at: kubelets up to 1.37.1 list those of other devices too.
    pub(crate) fn in_use(&self, driver: &DriverName) -> InUse {
        let mut in_use = InUse::default();
        for resource in &self.resources {
            for device in resource.claim_resources.iter().filter(|device| device.driver_name == driver.as_str()) {
                let (namespace, name) = (resource.claim_namespace.clone(), resource.claim_name.clone());
                in_use.insert(namespace, name, device.device_name.clone());
            }
        }
        in_use
    }
}
