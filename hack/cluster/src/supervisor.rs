//! The process that owns a cluster, and PID 1 of its node.
//!
//! Nothing of a cluster outlives its supervisor:
//! - the supervisor starts PID 1 in a PID namespace, and the kernel kills PID 1 when the supervisor ends
//!   (`PR_SET_PDEATHSIG`, and an end of file for the moment before that is set);
//! - with PID 1 the kernel kills everything in its namespace, and with the last process all mounts and the network go;
//! - the supervisor then removes the cgroups and the run directory. If it is killed itself, `registry::sweep` does.
//!
//! The supervisor is single-threaded, as a parent-death signal is sent when the parent *thread* ends. It watches the
//! pipe from the process that asked for the cluster: the end of that process, however it comes, closes the pipe.

mod devices;
mod init;
mod mounts;
mod network;
mod services;

use std::env;
use std::fs::{self, File};
use std::io::{BufReader, Read, stdin, stdout};
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open, setsid};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use crate::cgroups;
use crate::control::{read_line, write_line};
use crate::processes::{ProcessId, wait_for_end};
use crate::record::{Record, Spec};
use crate::registry::Claim;

pub use init::run as run_init;

/// What the supervisor is told first.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) spec: Spec,
    /// Programs of the node: the name of the link and what it points to.
    pub(crate) programs: Vec<(String, std::path::PathBuf)>,
}

/// What the supervisor, and before it PID 1, answers once.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Ready,
    Failed(String),
}

/// The one byte that makes a cluster live on without the process that asked for it.
pub(crate) const DETACH: u8 = b'd';

/// Runs the supervisor: reads the order from standard input, answers on standard output, and stays until the cluster
/// is to end. Returns when nothing is left of it.
pub fn run() -> Result<()> {
    // Out of the terminal's reach: Ctrl-C is for the process that asked for the cluster, whose end is noticed here.
    let _is_leader_already = setsid();
    let told_to_end = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&told_to_end)).context("handling signals")?;
    }
    let order: Order = read_line(&mut BufReader::with_capacity(1, stdin().lock()))?;
    let claim = match Claim::new(&order.spec.cluster) {
        Ok(claim) => claim,
        Err(error) => return write_line(&mut stdout(), &Reply::Failed(format!("{error:#}"))),
    };
    let outcome = match Running::start(&order, &claim) {
        Ok(mut running) => {
            let answered = write_line(&mut stdout(), &Reply::Ready);
            let watched = answered.and_then(|()| running.watch(&told_to_end));
            running.kill().and(watched)
        }
        Err(error) => write_line(&mut stdout(), &Reply::Failed(format!("{error:#}"))),
    };
    outcome.and(claim.remove())
}

/// The node's PID 1, as its parent sees it.
struct Running {
    init: Child,
}

impl Running {
    fn start(order: &Order, claim: &Claim) -> Result<Self> {
        let directory = claim.directory();
        for path in [directory.logs(), directory.bin(), directory.config()] {
            fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        }
        for (name, program) in &order.programs {
            let link = directory.bin().join(name);
            symlink(program, &link).with_context(|| format!("linking {}", link.display()))?;
        }
        cgroups::create(&order.spec.node.cgroup)?;
        // From here on every child is born in a new PID namespace, the first as its PID 1.
        leave(UnshareFlags::NEWPID).context("making a PID namespace (are you root?)")?;
        let log = directory.log_of("node");
        let mut init = Command::new(env::current_exe().context("finding the supervisor's own program")?)
            .arg("init")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).with_context(|| format!("making {}", log.display()))?)
            .spawn()
            .context("starting PID 1 of the node")?;
        match Self::introduce(&mut init, order, claim) {
            Ok(()) => Ok(Self { init }),
            Err(error) => {
                Self { init }.kill()?;
                Err(error)
            }
        }
    }

    fn introduce(init: &mut Child, order: &Order, claim: &Claim) -> Result<()> {
        let input = init.stdin.as_mut().context("PID 1 has no standard input")?;
        write_line(input, &order.spec).context("telling PID 1 what to be")?;
        let output = init.stdout.as_mut().context("PID 1 has no standard output")?;
        let reply: Reply = read_line(&mut BufReader::new(output)).context("waiting for PID 1 of the node")?;
        if let Reply::Failed(reason) = reply {
            anyhow::bail!("making the node: {reason}");
        }
        let record = Record {
            spec: order.spec.clone(),
            supervisor: ProcessId::of(i32::try_from(std::process::id())?)?,
            init: ProcessId::of(i32::try_from(init.id())?)?,
        };
        record.write(claim.directory())
    }

    /// Returns when the cluster is to end: its owner is gone, a signal came, or PID 1 died.
    fn watch(&mut self, told_to_end: &AtomicBool) -> Result<()> {
        let pid = i32::try_from(self.init.id()).ok().and_then(Pid::from_raw).context("PID 1 has no id")?;
        let init = pidfd_open(pid, PidfdFlags::empty()).context("watching PID 1 of the node")?;
        let mut owner = Some(stdin());
        // A signal between the check and the poll would be slept over, hence the time limit.
        let timeout = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
        while !told_to_end.load(Ordering::Relaxed) {
            let (init_ended, owner_spoke) = {
                let mut watched = vec![PollFd::new(&init, PollFlags::IN)];
                if let Some(owner) = &owner {
                    watched.push(PollFd::new(owner, PollFlags::IN));
                }
                match poll(&mut watched, Some(&timeout)) {
                    Ok(_) => {}
                    Err(rustix::io::Errno::INTR) => continue,
                    Err(error) => return Err(error).context("watching the cluster"),
                }
                (!watched[0].revents().is_empty(), watched.get(1).is_some_and(|owner| !owner.revents().is_empty()))
            };
            if init_ended {
                return Ok(());
            }
            if owner_spoke {
                let mut word = [0];
                let spoken = stdin().read(&mut word).unwrap_or(0);
                if spoken == 0 || word[0] != DETACH {
                    return Ok(());
                }
                owner = None;
            }
        }
        Ok(())
    }

    /// Kills PID 1 and with it everything in the node; returns when all of it is gone.
    fn kill(mut self) -> Result<()> {
        self.init.kill().context("killing PID 1 of the node")?;
        self.init.wait().context("waiting for the node's processes to end")?;
        Ok(())
    }
}

/// Leaves namespaces for new ones.
#[expect(deprecated, reason = "what took its place is unsafe for the sake of UnshareFlags::FILES, which is not used")]
fn leave(namespaces: UnshareFlags) -> rustix::io::Result<()> {
    rustix::thread::unshare(namespaces)
}

/// Asks a supervisor to end its cluster and waits for it, up to `patience`; then kills it.
pub(crate) fn end(supervisor: &ProcessId, patience: std::time::Duration) -> Result<()> {
    let Some(pid) = Pid::from_raw(supervisor.pid) else { return Ok(()) };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
    if !supervisor.is_alive() {
        return Ok(());
    }
    rustix::process::pidfd_send_signal(&handle, rustix::process::Signal::TERM)
        .with_context(|| format!("ending the supervisor {}", supervisor.pid))?;
    if !wait_for_end(&handle, patience)? {
        crate::processes::kill_if_same(supervisor)?;
    }
    Ok(())
}
