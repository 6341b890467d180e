//! The ground on which is measured: hardware, directories, the stand-in, the agent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use simulated_hardware::{Machine, Profile};
use tempfile::TempDir;
use testkit::kubelet::Answer;
use testkit::{Agent, Claim, Kubelet, Node, Plugin};

use crate::stand_in::StandIn;

/// Where /run would be a tmpfs.
const MEMORY: &str = "/dev/shm";

/// A node for one agent at a time. Processes end before the directories go.
pub(crate) struct Ground {
    agent: Option<Agent>,
    pub(crate) stand_in: StandIn,
    program: PathBuf,
    /// What the agent publishes.
    pub(crate) devices: Vec<String>,
    directory: TempDir,
    memory: TempDir,
}

impl Ground {
    pub(crate) fn new(program: &Path, profile: &Profile) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("tessera-bench-").tempdir()?;
        // CDI specs and records live on a tmpfs on a real node.
        let memory = tempfile::Builder::new().prefix("tessera-bench-").tempdir_in(MEMORY);
        let memory = memory.with_context(|| format!("no directory in {MEMORY}, which stands for /run"))?;
        std::fs::create_dir_all(directory.path().join("kubelet/plugins_registry"))?;
        let library = simulated_hardware::library()?;
        let machine = Machine::create(&directory.path().join("root"), profile, &library)?;
        let gpus = machine.hardware()?.gpus;
        let devices = gpus.iter().map(|gpu| format!("gpu-{}", gpu.pci.to_string().replace([':', '.'], "-"))).collect();
        let mut stand_in = StandIn::start()?;
        stand_in.write_kubeconfig(&directory.path().join("kubeconfig"))?;
        Ok(Self { agent: None, stand_in, program: program.to_owned(), devices, directory, memory })
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// Where CDI specs are written.
    pub(crate) fn cdi_dir(&self) -> PathBuf {
        self.memory.path().join("cdi")
    }

    /// Starts the agent; returns when it is registered.
    pub(crate) async fn start(&mut self) -> Result<Plugin> {
        // What a killed agent left would make the kubelet try that, and pause after it failed.
        for left in std::fs::read_dir(self.directory.path().join("kubelet/plugins_registry"))? {
            std::fs::remove_file(left?.path())?;
        }
        let kubelet = Kubelet::start(&self.directory.path().join("kubelet"), Answer::Confirm);
        let log = self.directory.path().join("agent.log");
        self.agent = Some(Agent::start(&self.program, &self.arguments(), &log));
        let found = testkit::until(Duration::from_secs(20), || kubelet.registrations().first().cloned()).await;
        match found {
            Some(registered) => Ok(Plugin::connect(Path::new(&registered.info.endpoint)).await),
            None => bail!("the agent did not register; its log:\n{}", std::fs::read_to_string(log).unwrap_or_default()),
        }
    }

    /// Ends the agent.
    pub(crate) fn kill(&mut self) {
        self.agent = None;
    }

    /// Resident memory of the agent in MiB.
    pub(crate) fn resident_mib(&self) -> Result<f64> {
        let id = self.agent.as_ref().context("no agent runs")?.id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        Ok(kib.context("no VmRSS")?.parse::<f64>()? / 1024.0)
    }

    /// A claim for one device, by its index, that the API server knows.
    pub(crate) fn claim(&mut self, name: &str, device: usize) -> Result<Claim> {
        let claim = Claim::new(name).device("gpu", &self.devices[device]);
        self.stand_in.put(&claim)?;
        Ok(claim)
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
        std::iter::once("run".to_owned()).chain(flags).collect()
    }
}
