//! The ground on which is measured: a node for one agent at a time, with its kubelet and its API server.

mod beside_stand_in;
mod inside_node;
mod pool;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use simulated_hardware::Machine;
use testkit::{Agent, Claim, Plugin};

pub(crate) use beside_stand_in::BesideStandIn;
pub(crate) use inside_node::InsideNode;
pub(crate) use pool::devices_of_pool;

/// Where the agent is started, called and looked at. What it is measured by is the same everywhere.
pub(crate) trait Ground {
    /// What the agent publishes.
    fn devices(&self) -> &[String];

    /// The kubeconfig that the agent uses.
    fn kubeconfig(&self) -> PathBuf;

    /// Where CDI specs are written.
    fn cdi_dir(&self) -> PathBuf;

    /// The agent's process, once it was started. It ends when it is taken out.
    fn agent(&mut self) -> &mut Option<Agent>;

    /// What later agents are told to offer besides whole accelerators (`--offer`).
    fn offers(&mut self) -> &mut Option<&'static str>;

    /// Starts the agent; returns when it is registered.
    async fn start(&mut self) -> Result<Plugin>;

    /// Makes the API server know a claim; gives it back with the UID that it has there.
    async fn put(&mut self, claim: Claim) -> Result<Claim>;

    /// Waits until all devices are in slices, and no others.
    async fn wait_for_devices(&mut self) -> Result<()>;

    /// Waits until the pool is there whole, whatever its devices are; says how many.
    async fn wait_for_pool(&mut self) -> Result<usize>;

    /// The hardware, to be changed while the agent runs.
    fn machine(&self) -> Result<Machine>;

    /// Makes the kubelet and the API server forget an agent that was killed, so that the next one starts as the first.
    async fn forget(&mut self) -> Result<()>;

    /// Counts the agent's writing requests since the last call.
    async fn writes(&mut self) -> Result<f64>;

    /// Ends the agent without warning.
    fn kill(&mut self) {
        *self.agent() = None;
    }

    /// Resident memory of the agent in MiB.
    fn resident_mib(&mut self) -> Result<f64> {
        let id = self.agent().as_ref().context("no agent runs")?.id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        Ok(kib.context("no VmRSS")?.parse::<f64>()? / 1024.0)
    }
}

/// Removes what killed agents left for the kubelet to find.
fn remove_registrations(kubelet: &Path) -> Result<()> {
    for left in std::fs::read_dir(kubelet.join("plugins_registry"))? {
        std::fs::remove_file(left?.path())?;
    }
    Ok(())
}

/// The names under which the agent publishes a machine's GPUs, sorted.
fn device_names(machine: &Machine) -> Result<Vec<String>> {
    let gpus = machine.hardware()?.gpus;
    let names = gpus.iter().map(|gpu| format!("gpu-{}", gpu.pci.to_string().replace([':', '.'], "-")));
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    Ok(names)
}
