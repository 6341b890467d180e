use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::SimulatedNode;
use crate::programs::beside;

const SERVICE: &str = "simulated-sysfs";

/// What it says once its sysfs can be used.
const AT_WORK: &str = " lives";
const START: Duration = Duration::from_secs(60);

impl SimulatedNode {
    /// Makes the sysfs of the node's hardware live, so that drivers can be bound and unbound in it. `arguments` are those of
    /// `simulated-sysfs` besides the machine. To be called before the agent starts.
    ///
    /// It runs inside the node: a mount that is made on the host later on does not reach the node's own mounts, which are
    /// private, and here it sees the processes that have devices open, and ends with the node.
    pub fn boot_kernel(&self, arguments: &[&str]) -> Result<()> {
        let program = beside("simulated-sysfs", "simulated-sysfs")?;
        let machine = format!("/run/cluster/{}", crate::HARDWARE);
        let fixed = [program.to_str().context("the target directory's path is not UTF-8")?, &machine];
        let argv: Vec<String> = fixed.iter().chain(arguments).map(|argument| (*argument).to_owned()).collect();
        let log = self.cluster().service_log(SERVICE);
        let log = || std::fs::read_to_string(&log).unwrap_or_default();
        let earlier = log().matches(AT_WORK).count();
        self.cluster().start_service(SERVICE, &argv, &[])?;
        let deadline = Instant::now() + START;
        loop {
            if log().matches(AT_WORK).count() > earlier {
                return Ok(());
            }
            if Instant::now() > deadline || !self.is_kernel_running()? {
                bail!("{SERVICE} does not start; its log is:\n{}", log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether it is at work.
    pub fn is_kernel_running(&self) -> Result<bool> {
        self.cluster().service_running(SERVICE)
    }

    /// The sysfs of the node's hardware as the node sees it, on the host: with the kernel booted the living one.
    pub fn sysfs(&self) -> PathBuf {
        self.cluster().node_root().join("run/cluster").join(crate::HARDWARE).join("sys")
    }
}
