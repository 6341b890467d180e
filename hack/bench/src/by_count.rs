//! How long the kubelet waits for a container that asks for devices by count.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use tessera_kubelet_api::device_plugin_v1beta1::device_plugin_client::DevicePluginClient;
use tessera_kubelet_api::device_plugin_v1beta1::{
    AllocateRequest, ContainerAllocateRequest, ContainerPreferredAllocationRequest, PreferredAllocationRequest,
};
use testkit::kubelet::DeviceManager;
use tonic::transport::{Channel, Endpoint};

use crate::Samples;
use crate::figures::{Figures, percentile};
use crate::ground::{BesideStandIn, Ground};
use crate::hardware::Hardware;
use crate::life::SETTLE;

const GPU: &str = "nvidia.com/gpu";

/// So many GPUs the node has, and so many of them a container asks for.
const GPUS: usize = 16;
const ASKED: i32 = 8;

/// Calls before the first one that counts.
const WARM_UP: usize = 20;

/// Between two containers: the kubelet has one admitted after the other, and never without a pause.
const PAUSE: Duration = Duration::from_millis(5);

/// Asks which GPUs a container should get and has them allocated, again and again.
///
/// Pods have them already when that begins, and those who look for free devices were told: what the API server is asked
/// for from then on, it is asked for by these calls.
pub(crate) async fn measure(agent: &Path, samples: Samples, figures: &mut Figures) -> Result<()> {
    let mut ground = BesideStandIn::new(agent, Hardware::Sixteen)?;
    ground.serve_by_count();
    let manager = DeviceManager::start(&ground.kubelet_dir());
    ground.start().await?;
    ground.wait_for_devices().await?;
    let offered = || Some(manager.healthy(GPU)).filter(|ids| ids.len() == GPUS);
    let ids = testkit::until(testkit::PATIENCE, offered).await.context("the GPUs are not offered by count")?;
    manager.allocate(GPU, &ids).await.map_err(|refusal| anyhow!(refusal))?;
    let mut client = connect(&manager, &ground.kubelet_dir()).await?;

    tokio::time::sleep(SETTLE).await;
    ground.requests()?;
    let (mut choosing, mut allocating) = (Vec::new(), Vec::new());
    for number in 0..WARM_UP + samples.claims {
        let started = Instant::now();
        let chosen = preferred(&mut client, &ids).await?;
        let chose = started.elapsed();
        let started = Instant::now();
        allocate(&mut client, chosen).await?;
        let allocated = started.elapsed();
        if number >= WARM_UP {
            choosing.push(chose);
            allocating.push(allocated);
        }
        tokio::time::sleep(PAUSE).await;
    }
    figures.set("api_calls_by_count", ground.requests()?);
    figures.set("preferred_allocation_p99_ms", percentile(&mut choosing, 0.99));
    figures.set("allocate_p50_ms", percentile(&mut allocating, 0.5));
    figures.set("allocate_p99_ms", percentile(&mut allocating, 0.99));
    Ok(())
}

/// Connects to the socket that the agent registered for the resource.
async fn connect(manager: &DeviceManager, kubelet: &Path) -> Result<DevicePluginClient<Channel>> {
    let registrations = manager.registrations();
    let registered = registrations.iter().rfind(|one| one.resource_name == GPU).context("no registration")?;
    let socket = kubelet.join("device-plugins").join(&registered.endpoint);
    let channel = Endpoint::from_shared(format!("unix://{}", socket.display()))?.connect().await?;
    Ok(DevicePluginClient::new(channel))
}

async fn preferred(client: &mut DevicePluginClient<Channel>, ids: &[String]) -> Result<Vec<String>> {
    let asked = ContainerPreferredAllocationRequest {
        available_device_i_ds: ids.to_vec(),
        must_include_device_i_ds: Vec::new(),
        allocation_size: ASKED,
    };
    let request = PreferredAllocationRequest { container_requests: vec![asked] };
    let answer = client.get_preferred_allocation(request).await?.into_inner();
    Ok(answer.container_responses.into_iter().flat_map(|one| one.device_i_ds).collect())
}

async fn allocate(client: &mut DevicePluginClient<Channel>, chosen: Vec<String>) -> Result<()> {
    anyhow::ensure!(i32::try_from(chosen.len()) == Ok(ASKED), "{ASKED} were asked for, and {chosen:?} are preferred");
    let container_requests = vec![ContainerAllocateRequest { devices_ids: chosen }];
    client.allocate(AllocateRequest { container_requests }).await?;
    Ok(())
}
