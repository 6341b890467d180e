use std::pin::Pin;
use std::sync::Arc;

use cdi::DeviceNode;
use futures::{Stream, StreamExt, future};
use tessera_device_plugin::{Answer, DeviceId, Offer, Offered, ResourceName};
use tessera_kubelet_api::device_plugin_v1beta1::device_plugin_server::DevicePlugin;
use tessera_kubelet_api::device_plugin_v1beta1::{
    AllocateRequest, AllocateResponse, CdiDevice, ContainerAllocateResponse, ContainerPreferredAllocationResponse,
    Device, DevicePluginOptions, DeviceSpec, Empty, ListAndWatchResponse, Mount, NumaNode, PreStartContainerRequest,
    PreStartContainerResponse, PreferredAllocationRequest, PreferredAllocationResponse, TopologyInfo,
};
use tessera_kubelet_api::names::{HEALTHY, UNHEALTHY};
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::desk::Desk;

/// Which optional calls the kubelet should make.
pub(super) const OPTIONS: DevicePluginOptions =
    DevicePluginOptions { pre_start_required: false, get_preferred_allocation_available: true };

/// One resource, as the kubelet sees it.
pub(super) struct Service {
    pub(super) desk: Arc<Desk>,
    pub(super) resource: ResourceName,
    /// Ends the streams.
    pub(super) stop: CancellationToken,
}

/// All devices of a resource; none if it is not offered any more.
fn devices(offer: &Offer, resource: &ResourceName) -> Vec<Device> {
    let offered = offer.resources.get(resource).into_iter().flat_map(|resource| &resource.devices);
    let device = |device: &Offered| Device {
        id: device.id.to_string(),
        health: if device.is_healthy() { HEALTHY } else { UNHEALTHY }.to_owned(),
        topology: device.numa_node.map(|node| TopologyInfo { nodes: vec![NumaNode { id: node.into() }] }),
    };
    offered.map(device).collect()
}

fn read(ids: &[String]) -> Vec<DeviceId> {
    ids.iter().map(|id| DeviceId::read(id)).collect()
}

fn message(answer: Answer) -> ContainerAllocateResponse {
    let mount = |(container_path, host_path): (String, String)| Mount { container_path, host_path, read_only: true };
    let node = |node: DeviceNode| DeviceSpec {
        host_path: node.host_path.unwrap_or_else(|| node.path.clone()),
        container_path: node.path,
        permissions: node.permissions.unwrap_or_else(|| "rwm".to_owned()),
    };
    ContainerAllocateResponse {
        envs: answer.environment.into_iter().collect(),
        mounts: answer.mounts.into_iter().map(mount).collect(),
        devices: answer.device_nodes.into_iter().map(node).collect(),
        annotations: answer.annotations.into_iter().collect(),
        cdi_devices: answer.cdi_devices.into_iter().map(|name| CdiDevice { name }).collect(),
    }
}

#[tonic::async_trait]
impl DevicePlugin for Service {
    async fn get_device_plugin_options(&self, _: Request<Empty>) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(OPTIONS))
    }

    type ListAndWatchStream = Pin<Box<dyn Stream<Item = Result<ListAndWatchResponse, Status>> + Send>>;

    /// The whole list, now, with each change of it, and when it is to be repeated.
    async fn list_and_watch(&self, _: Request<Empty>) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let (resource, mut told) = (self.resource.clone(), None);
        let lists = WatchStream::new(self.desk.offered()).filter_map(move |telling| {
            let devices = devices(&telling.offer, &resource);
            let is_new = told.as_ref() != Some(&(telling.repeats, devices.clone()));
            told = Some((telling.repeats, devices.clone()));
            future::ready(is_new.then_some(Ok(ListAndWatchResponse { devices })))
        });
        // A stream without an end would keep the server from stopping.
        Ok(Response::new(Box::pin(lists.take_until(self.stop.clone().cancelled_owned()))))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        let answer = request.into_inner().container_requests.into_iter().map(|asked| {
            let (available, must) = (read(&asked.available_device_i_ds), read(&asked.must_include_device_i_ds));
            let size = usize::try_from(asked.allocation_size).unwrap_or_default();
            let chosen = self.desk.preferred(&self.resource, &available, &must, size);
            ContainerPreferredAllocationResponse { device_i_ds: chosen.iter().map(ToString::to_string).collect() }
        });
        Ok(Response::new(PreferredAllocationResponse { container_responses: answer.collect() }))
    }

    /// What fails here fails the pod for good, so nothing is looked up elsewhere.
    async fn allocate(&self, request: Request<AllocateRequest>) -> Result<Response<AllocateResponse>, Status> {
        let mut container_responses = Vec::new();
        for container in request.into_inner().container_requests {
            let granted = self.desk.grant(&self.resource, &read(&container.devices_ids));
            container_responses.push(message(granted.map_err(|error| Status::failed_precondition(error.to_string()))?));
        }
        Ok(Response::new(AllocateResponse { container_responses }))
    }

    async fn pre_start_container(
        &self,
        _: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        Ok(Response::new(PreStartContainerResponse {}))
    }
}
