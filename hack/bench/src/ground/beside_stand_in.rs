//! Directories that stand for a node, and stand-ins for the API server and the kubelet.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use simulated_hardware::Machine;
use tempfile::TempDir;
use testkit::kubelet::Answer;
use testkit::{Agent, Claim, Kubelet, Node, Plugin};

use super::{Ground, device_names, remove_registrations};
use crate::hardware::Hardware;
use crate::stand_in::StandIn;

/// Where /run would be a tmpfs.
const MEMORY: &str = "/dev/shm";

/// Processes end before the directories go.
pub(crate) struct BesideStandIn {
    agent: Option<Agent>,
    offers: Option<&'static str>,
    by_count: bool,
    stand_in: StandIn,
    program: PathBuf,
    devices: Vec<String>,
    directory: TempDir,
    memory: TempDir,
}

impl BesideStandIn {
    pub(crate) fn new(program: &Path, hardware: Hardware) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("tessera-bench-").tempdir()?;
        // CDI specs and records live on a tmpfs on a real node.
        let memory = tempfile::Builder::new().prefix("tessera-bench-").tempdir_in(MEMORY);
        let memory = memory.with_context(|| format!("no directory in {MEMORY}, which stands for /run"))?;
        std::fs::create_dir_all(directory.path().join("kubelet/plugins_registry"))?;
        let library = simulated_hardware::library()?;
        let machine = Machine::create(&directory.path().join("root"), &hardware.profile()?, &library)?;
        let devices = device_names(&machine)?;
        let mut stand_in = StandIn::start()?;
        stand_in.write_kubeconfig(&directory.path().join("kubeconfig"))?;
        let program = program.to_owned();
        Ok(Self { agent: None, offers: None, by_count: false, stand_in, program, devices, directory, memory })
    }

    /// Makes later agents offer the devices by count, too.
    pub(crate) fn serve_by_count(&mut self) {
        self.by_count = true;
    }

    /// Where the kubelet has its sockets.
    pub(crate) fn kubelet_dir(&self) -> PathBuf {
        self.directory.path().join("kubelet")
    }

    /// Counts all requests to the API server since the last call.
    pub(crate) fn requests(&mut self) -> Result<f64> {
        self.stand_in.requests()
    }

    /// As in production but for directories: nothing that makes it faster.
    fn arguments(&self) -> Vec<String> {
        let below = |base: &TempDir, name: &str| base.path().join(name).to_string_lossy().into_owned();
        let flags = [
            ("--node-name", Node::NAME.to_owned()),
            ("--root", below(&self.directory, "root")),
            ("--kubelet-dir", below(&self.directory, "kubelet")),
            ("--kubeconfig", below(&self.directory, "kubeconfig")),
            ("--cdi-dir", below(&self.memory, "cdi")),
            ("--state-dir", below(&self.memory, "state")),
            ("--http", "127.0.0.1:0".to_owned()),
        ];
        let flags = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        let offers = self.offers.into_iter().flat_map(|offers| ["--offer".to_owned(), offers.to_owned()]);
        let by_count = self.by_count.then(|| ["--api", "both"].map(str::to_owned)).into_iter().flatten();
        std::iter::once("run".to_owned()).chain(flags).chain(offers).chain(by_count).collect()
    }
}

impl Ground for BesideStandIn {
    fn devices(&self) -> &[String] {
        &self.devices
    }

    fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    fn cdi_dir(&self) -> PathBuf {
        self.memory.path().join("cdi")
    }

    fn agent(&mut self) -> &mut Option<Agent> {
        &mut self.agent
    }

    fn offers(&mut self) -> &mut Option<&'static str> {
        &mut self.offers
    }

    async fn start(&mut self) -> Result<Plugin> {
        // What a killed agent left would make the kubelet try that, and pause after it failed.
        remove_registrations(&self.kubelet_dir())?;
        let kubelet = Kubelet::start(&self.kubelet_dir(), Answer::Confirm);
        let log = self.directory.path().join("agent.log");
        self.agent = Some(Agent::start(&self.program, &self.arguments(), &log));
        let found = testkit::until(Duration::from_secs(20), || kubelet.registrations().first().cloned()).await;
        match found {
            Some(registered) => Ok(Plugin::connect(Path::new(&registered.info.endpoint)).await),
            None => bail!("the agent did not register; its log:\n{}", std::fs::read_to_string(log).unwrap_or_default()),
        }
    }

    async fn put(&mut self, claim: Claim) -> Result<Claim> {
        self.stand_in.put(&claim)?;
        Ok(claim)
    }

    async fn wait_for_devices(&mut self) -> Result<()> {
        self.stand_in.wait_for_devices(self.devices.len())
    }

    async fn wait_for_pool(&mut self) -> Result<usize> {
        self.stand_in.wait_for_pool()
    }

    fn machine(&self) -> Result<Machine> {
        Ok(Machine::open(&self.directory.path().join("root"))?)
    }

    async fn forget(&mut self) -> Result<()> {
        self.stand_in.wipe()
    }

    async fn writes(&mut self) -> Result<f64> {
        self.stand_in.writes()
    }
}
