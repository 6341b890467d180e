//! The kubelet's device manager: its socket for device plugins, and pods that ask for devices by count.
//!
//! What it leaves out: NUMA alignment, init containers, and the five minutes for which the node's status keeps a resource
//! whose plugin has gone (here its devices are unhealthy from then on, as there). A pod that ends is forgotten at once, and
//! that is written down when a plugin says something, as by a kubelet that is asked for its pods in between.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use serde_json::json;
use tessera_kubelet_api::device_plugin_v1beta1::device_plugin_client::DevicePluginClient;
use tessera_kubelet_api::device_plugin_v1beta1::registration_server::{Registration, RegistrationServer};
use tessera_kubelet_api::device_plugin_v1beta1::{
    AllocateRequest, ContainerAllocateRequest, ContainerAllocateResponse, ContainerPreferredAllocationRequest, Device,
    Empty, PreferredAllocationRequest, RegisterRequest,
};
use tessera_kubelet_api::names::{DEVICE_PLUGIN_VERSION, HEALTHY, UNHEALTHY};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

use crate::unix_server::{UnixServer, remove};

/// The file in which what pods have is kept.
const CHECKPOINT: &str = "kubelet_internal_checkpoint";

/// A running device manager. It ends when dropped.
pub struct DeviceManager {
    directory: PathBuf,
    shared: Arc<Mutex<Table>>,
    serving: Option<UnixServer>,
}

#[derive(Default)]
struct Table {
    resources: BTreeMap<String, Plugin>,
    registrations: Vec<RegisterRequest>,
    /// What pods have, by resource and id: this outlives a restart, as the checkpoint does.
    taken: BTreeSet<(String, String)>,
}

impl Table {
    /// Writes the checkpoint (`pkg/kubelet/cm/devicemanager/manager.go`, `writeCheckpoint`), whole or not at all.
    fn write_checkpoint(&self, directory: &Path) {
        let entry = |(resource, id): &(String, String)| {
            json!({
                "PodUID": "uid", "ContainerName": "main", "ResourceName": resource, "DeviceIDs": {"-1": [id]},
                "AllocResp": "",
            })
        };
        let entries: Vec<_> = self.taken.iter().map(entry).collect();
        let checkpoint = json!({"Data": {"PodDeviceEntries": entries, "RegisteredDevices": {}}, "Checksum": 1});
        let (path, aside) = (directory.join(CHECKPOINT), directory.join(".checkpoint"));
        fs::write(&aside, checkpoint.to_string()).and_then(|()| fs::rename(&aside, &path)).expect("a checkpoint");
    }
}

/// What is known of a resource: its newest plugin, and the last list of any.
struct Plugin {
    channel: Channel,
    endpoint: String,
    asks_for_preference: bool,
    devices: Vec<Device>,
}

/// What a container got.
#[derive(Clone, Debug)]
pub struct Allocated {
    /// The ids of its devices.
    pub ids: Vec<String>,
    /// What the plugin answered.
    pub answer: ContainerAllocateResponse,
}

impl DeviceManager {
    /// Starts in the directory of a kubelet.
    pub fn start(kubelet_dir: &Path) -> Self {
        let directory = kubelet_dir.join("device-plugins");
        let mut manager = Self { directory, shared: Arc::default(), serving: None };
        manager.begin();
        manager
    }

    /// Ends as a process does, and starts anew: every socket of the directory is removed, and what pods have stays
    /// (`pkg/kubelet/cm/devicemanager/plugin/v1beta1/server.go`, `Start`).
    pub fn restart(&mut self) {
        self.serving = None;
        self.table().resources.clear();
        self.begin();
    }

    fn begin(&mut self) {
        fs::create_dir_all(&self.directory).expect("the directory of device plugins");
        for entry in fs::read_dir(&self.directory).expect("the directory of device plugins") {
            let entry = entry.expect("an entry");
            if entry.file_type().is_ok_and(|kind| kind.is_socket()) {
                remove(&entry.path());
            }
        }
        let service = Service { directory: self.directory.clone(), shared: Arc::clone(&self.shared) };
        let router = Server::builder().add_service(RegistrationServer::new(service));
        self.serving = Some(UnixServer::start(&self.directory.join("kubelet.sock"), router));
    }

    /// Every registration so far, the oldest first.
    pub fn registrations(&self) -> Vec<RegisterRequest> {
        self.table().registrations.clone()
    }

    /// The devices of a resource as they were listed last.
    pub fn devices(&self, resource: &str) -> Vec<Device> {
        self.table().resources.get(resource).map(|plugin| plugin.devices.clone()).unwrap_or_default()
    }

    /// The ids of the healthy devices of a resource.
    pub fn healthy(&self, resource: &str) -> Vec<String> {
        let healthy = self.devices(resource).into_iter().filter(|device| device.health == HEALTHY);
        healthy.map(|device| device.id).collect()
    }

    /// Admits a container that asks for so many.
    ///
    /// # Errors
    /// Why the pod fails: too few are free, or what the plugin says.
    pub async fn admit(&self, resource: &str, count: usize) -> Result<Allocated, String> {
        let (free, channel, asks) = {
            let table = self.table();
            let plugin = table.resources.get(resource).ok_or("no plugin has registered it")?;
            let healthy = plugin.devices.iter().filter(|device| device.health == HEALTHY);
            let ids = healthy.map(|device| device.id.clone());
            let taken = |id: &String| table.taken.contains(&(resource.to_owned(), id.clone()));
            let free: Vec<String> = ids.filter(|id| !taken(id)).collect();
            (free, plugin.channel.clone(), plugin.asks_for_preference)
        };
        if free.len() < count {
            return Err(format!("{count} of {resource} were asked for, and {} are free", free.len()));
        }
        let mut client = DevicePluginClient::new(channel);
        let mut ids = Vec::new();
        if asks && free.len() > count {
            let asked = ContainerPreferredAllocationRequest {
                available_device_i_ds: free.clone(),
                must_include_device_i_ds: Vec::new(),
                allocation_size: i32::try_from(count).expect("a small number"),
            };
            let request = PreferredAllocationRequest { container_requests: vec![asked] };
            let answer =
                client.get_preferred_allocation(request).await.map_err(|status| status.message().to_owned())?;
            let preferred = answer.into_inner().container_responses.into_iter().flat_map(|one| one.device_i_ds);
            ids = preferred.filter(|id| free.contains(id)).take(count).collect();
        }
        // A short answer is filled up.
        let others: Vec<_> = free.into_iter().filter(|id| !ids.contains(id)).collect();
        ids.extend(others.into_iter().take(count - ids.len()));
        self.allocate(resource, &ids).await
    }

    /// Asks the plugin for these devices, as a kubelet does that has not heard yet what became of them.
    ///
    /// # Errors
    /// What the plugin says: the pod has failed then.
    pub async fn allocate(&self, resource: &str, ids: &[String]) -> Result<Allocated, String> {
        let allocated = self.ask(resource, ids).await?;
        self.hold(resource, ids);
        Ok(allocated)
    }

    /// The same for a pod that waits for another device plugin then: what it got is written nowhere before that has answered.
    ///
    /// # Errors
    /// What the plugin says.
    pub async fn ask(&self, resource: &str, ids: &[String]) -> Result<Allocated, String> {
        let channel = self.table().resources.get(resource).map(|plugin| plugin.channel.clone());
        let mut client = DevicePluginClient::new(channel.ok_or("no plugin has registered it")?);
        let container_requests = vec![ContainerAllocateRequest { devices_ids: ids.to_vec() }];
        let answer = client.allocate(AllocateRequest { container_requests }).await;
        let mut answers = answer.map_err(|status| status.message().to_owned())?.into_inner().container_responses;
        let answer = answers.pop().ok_or("the plugin answered nothing")?;
        Ok(Allocated { ids: ids.to_vec(), answer })
    }

    /// A pod has these from now on, whichever plugin gave them.
    pub fn hold(&self, resource: &str, ids: &[String]) {
        let mut table = self.table();
        table.taken.extend(ids.iter().map(|id| (resource.to_owned(), id.clone())));
        table.write_checkpoint(&self.directory);
    }

    /// A pod has ended: its devices are free. No plugin is told, and nothing is written.
    pub fn free(&self, resource: &str, ids: &[String]) {
        let mut table = self.table();
        for id in ids {
            table.taken.remove(&(resource.to_owned(), id.clone()));
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Service {
    directory: PathBuf,
    shared: Arc<Mutex<Table>>,
}

#[tonic::async_trait]
impl Registration for Service {
    /// Connects to the plugin, asks for its options and listens to its devices.
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        let request = request.into_inner();
        if request.version != DEVICE_PLUGIN_VERSION {
            return Err(Status::invalid_argument(format!("version {:?} is not supported", request.version)));
        }
        let (_, name) = request.resource_name.split_once('/').ok_or_else(|| Status::invalid_argument("a bad name"))?;
        if name.len() > 63 {
            return Err(Status::invalid_argument("the resource's name is too long"));
        }
        let known =
            self.table().resources.get(&request.resource_name).is_some_and(|one| one.endpoint == request.endpoint);
        if known {
            return Err(Status::already_exists("device plugin already connected"));
        }
        tokio::spawn(listen(self.directory.clone(), request, Arc::clone(&self.shared)));
        Ok(Response::new(Empty {}))
    }
}

impl Service {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn listen(directory: PathBuf, request: RegisterRequest, shared: Arc<Mutex<Table>>) {
    let (resource, endpoint) = (request.resource_name.clone(), request.endpoint.clone());
    let table = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    let socket = directory.join(&request.endpoint);
    let Ok(address) = Endpoint::from_shared(format!("unix://{}", socket.display())) else { return };
    let Ok(channel) = address.connect().await else { return };
    let mut client = DevicePluginClient::new(channel.clone());
    let Ok(options) = client.get_device_plugin_options(Empty {}).await else { return };
    let asks_for_preference = options.into_inner().get_preferred_allocation_available;
    let Ok(stream) = client.list_and_watch(Empty {}).await else { return };
    {
        let mut table = table();
        let plugin = Plugin { channel, endpoint: endpoint.clone(), asks_for_preference, devices: Vec::new() };
        table.resources.insert(resource.clone(), plugin);
        table.registrations.push(request);
    }
    let mut lists = stream.into_inner();
    while let Some(Ok(list)) = lists.next().await {
        let mut table = table();
        if let Some(plugin) = table.resources.get_mut(&resource) {
            plugin.devices = list.devices;
        }
        table.write_checkpoint(&directory);
    }
    // The newest plugin's devices stay.
    if let Some(plugin) = table().resources.get_mut(&resource).filter(|plugin| plugin.endpoint == endpoint) {
        plugin.devices.iter_mut().for_each(|device| UNHEALTHY.clone_into(&mut device.health));
    }
}
