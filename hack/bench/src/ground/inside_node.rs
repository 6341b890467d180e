//! A real node, seen from inside: its kubelet, its API server, its directories.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cluster::Cluster;
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceSlice};
use kube::api::{DeleteParams, ListParams, PostParams, Request};
use kube::{Api, Client};
use serde_json::Value;
use simulated_hardware::Machine;
use testkit::{Agent, Claim, Plugin};

use super::{Ground, device_names, devices_of_pool, remove_registrations};
use crate::client::client;
use crate::hardware::Hardware;

/// Where the agent serves the kubelet, and where it puts CDI specs, unless it is told otherwise.
const KUBELET: &str = "/var/lib/kubelet";
const SOCKET: &str = "/var/lib/kubelet/plugins/gpu.nvidia.com/dra@kubelet.sock";
const CDI: &str = "/var/run/cdi";
/// Beside the logs of all that runs on the node. Begins anew with each agent.
const LOG: &str = "/run/cluster/logs/tessera-agent.log";
/// How often the kubelet acts on sockets that came and went (`loopSleepDuration` in its plugin manager).
const KUBELET_LOOK: Duration = Duration::from_secs(1);
/// How long an agent may take to be registered or to publish.
const PATIENCE: Duration = Duration::from_secs(30);

/// The agent runs as a child of this process, in the node's mounts, network and processes.
pub(crate) struct InsideNode {
    agent: Option<Agent>,
    offers: Option<&'static str>,
    program: PathBuf,
    /// The root directory of its hardware.
    root: PathBuf,
    devices: Vec<String>,
    /// The admin's: the agent may neither make claims nor read metrics.
    admin: Client,
    /// How many agents were forgotten.
    forgotten: u32,
    /// The writing requests that were counted before.
    counted: f64,
}

impl InsideNode {
    pub(crate) async fn new(program: &Path, hardware: Hardware) -> Result<Self> {
        let root = Path::new("/run/cluster").join(hardware.directory());
        let devices = device_names(&Machine::open(&root)?)?;
        let admin = client(Path::new(Cluster::ADMIN_KUBECONFIG)).await?;
        Ok(Self {
            agent: None,
            offers: None,
            program: program.to_owned(),
            root,
            devices,
            admin,
            forgotten: 0,
            counted: 0.0,
        })
    }

    /// As on every node.
    fn arguments(&self) -> Vec<String> {
        let root = self.root.to_string_lossy();
        let arguments =
            ["run", "--node-name", cluster::NODE, "--kubeconfig", Cluster::AGENT_KUBECONFIG, "--root", &root];
        let offers = self.offers.into_iter().flat_map(|offers| ["--offer", offers]);
        arguments.into_iter().chain(offers).map(str::to_owned).collect()
    }

    /// Waits until the slices are as `wanted` says.
    async fn wait_for_slices<T>(&self, wanted: impl Fn(&[ResourceSlice]) -> Option<T>) -> Result<T> {
        let api: Api<ResourceSlice> = Api::all(self.admin.clone());
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let slices = api.list(&ListParams::default()).await.context("listing slices")?.items;
            if let Some(found) = wanted(&slices) {
                return Ok(found);
            }
            if tokio::time::Instant::now() > deadline {
                bail!("published are {:?}", devices(&slices).collect::<Vec<_>>());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Ground for InsideNode {
    fn devices(&self) -> &[String] {
        &self.devices
    }

    fn kubeconfig(&self) -> PathBuf {
        Cluster::AGENT_KUBECONFIG.into()
    }

    fn cdi_dir(&self) -> PathBuf {
        CDI.into()
    }

    fn agent(&mut self) -> &mut Option<Agent> {
        &mut self.agent
    }

    fn offers(&mut self) -> &mut Option<&'static str> {
        &mut self.offers
    }

    async fn start(&mut self) -> Result<Plugin> {
        let agent = self.agent.insert(Agent::start(&self.program, &self.arguments(), Path::new(LOG)));
        // The kubelet has confirmed it; nothing else says so without a request that would disturb.
        let registered = || agent.log().contains("registered with the kubelet").then_some(());
        if testkit::until(PATIENCE, registered).await.is_none() {
            bail!("the agent did not register; its log:\n{}", agent.log());
        }
        Ok(Plugin::connect(Path::new(SOCKET)).await)
    }

    /// Nothing reserves the claim, as if its pods were still to come: the resource claim controller takes allocations
    /// back that were reserved once, and leaves these alone.
    async fn put(&mut self, claim: Claim) -> Result<Claim> {
        let api: Api<ResourceClaim> = Api::namespaced(self.admin.clone(), &claim.namespace);
        let failed = || format!("making claim {}", claim.name);
        let wanted: ResourceClaim = serde_json::from_value(with_admin_access(claim.object()))?;
        let created = api.create(&PostParams::default(), &wanted).await.with_context(failed)?;
        let allocated = ResourceClaim { status: wanted.status, ..created };
        let stored = api.replace_status(&claim.name, &PostParams::default(), &allocated).await.with_context(failed)?;
        Ok(claim.uid(stored.metadata.uid.as_deref().context("a claim without UID")?))
    }

    async fn wait_for_devices(&mut self) -> Result<()> {
        self.wait_for_slices(|slices| {
            let mut found: Vec<_> = devices(slices).collect();
            found.sort_unstable();
            (found == self.devices).then_some(())
        })
        .await
    }

    async fn wait_for_pool(&mut self) -> Result<usize> {
        self.wait_for_slices(devices_of_pool).await
    }

    fn machine(&self) -> Result<Machine> {
        Ok(Machine::open(&self.root)?)
    }

    /// The next agent comes at another moment between two looks of the kubelet each time, as the one before was
    /// registered in a look: the golden ratio spreads few moments evenly.
    async fn forget(&mut self) -> Result<()> {
        remove_registrations(Path::new(KUBELET))?;
        self.forgotten += 1;
        let moment = (f64::from(self.forgotten) * 0.618_034).fract();
        tokio::time::sleep(KUBELET_LOOK.mul_f64(1.0 + moment)).await;
        let api: Api<ResourceSlice> = Api::all(self.admin.clone());
        api.delete_collection(&DeleteParams::default(), &ListParams::default()).await.context("deleting slices")?;
        Ok(())
    }

    /// As the API server counts them for slices, from whomever: the agent writes nothing else, and nobody else writes
    /// slices while it runs.
    async fn writes(&mut self) -> Result<f64> {
        let request = Request::new("/metrics").list(&ListParams::default())?;
        let metrics = self.admin.request_text(request).await.context("the API server's metrics")?;
        let counted = writes_of_slices(&metrics)?;
        if counted == 0.0 {
            bail!("the API server's metrics know of no write of a slice, and there were some");
        }
        Ok(counted - std::mem::replace(&mut self.counted, counted))
    }
}

/// The names of all devices in the slices.
fn devices(slices: &[ResourceSlice]) -> impl Iterator<Item = &str> {
    slices.iter().filter_map(|slice| slice.spec.devices.as_ref()).flatten().map(|device| device.name.as_str())
}

/// A scheduler allocates for watching only what asks for that.
fn with_admin_access(mut claim: Value) -> Value {
    if claim["status"]["allocation"]["devices"]["results"][0]["adminAccess"] == true {
        claim["spec"]["devices"]["requests"][0]["exactly"]["adminAccess"] = true.into();
    }
    claim
}

/// The sum of the API server's counters of requests that write ResourceSlices, whatever came of them.
fn writes_of_slices(metrics: &str) -> Result<f64> {
    let counters = metrics.lines().filter(|line| {
        line.starts_with("apiserver_request_total{")
            && line.contains("resource=\"resourceslices\"")
            && !["GET", "LIST", "WATCH"].iter().any(|verb| line.contains(&format!("verb=\"{verb}\"")))
    });
    let values =
        counters.map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<f64>().context(line.to_owned()));
    values.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_counted_and_reads_are_not() {
        let metrics = r#"# TYPE apiserver_request_total counter
apiserver_request_total{code="0",group="resource.k8s.io",resource="resourceslices",verb="WATCH",version="v1"} 5
apiserver_request_total{code="200",group="resource.k8s.io",resource="resourceslices",verb="LIST",version="v1"} 9
apiserver_request_total{code="201",group="resource.k8s.io",resource="resourceslices",verb="POST",version="v1"} 3
apiserver_request_total{code="409",group="resource.k8s.io",resource="resourceslices",verb="PUT",version="v1"} 1
apiserver_request_total{code="201",group="resource.k8s.io",resource="resourceclaims",verb="POST",version="v1"} 100
"#;
        assert_eq!(writes_of_slices(metrics).unwrap(), 4.0);
        assert!(writes_of_slices(&metrics.replace(" 1\n", " x\n")).is_err());
    }

    #[test]
    fn only_claims_for_watching_ask_for_admin_access() {
        let asks = |claim: Claim| {
            let claim = with_admin_access(claim.object());
            claim["spec"]["devices"]["requests"][0]["exactly"]["adminAccess"] == true
        };
        assert!(asks(Claim::new("watching").admin("gpu", "gpu-0")));
        assert!(!asks(Claim::new("using").device("gpu", "gpu-0")));
    }
}
