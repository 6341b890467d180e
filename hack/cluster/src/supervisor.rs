//! The process that owns a cluster, and PID 1 of each of its nodes.
//!
//! Nothing of a cluster outlives its supervisor:
//! - the supervisor starts each PID 1 in a PID namespace, and the kernel kills PID 1 when the supervisor ends
//!   (`PR_SET_PDEATHSIG`, and an end of file for the moment before that is set);
//! - with PID 1 the kernel kills everything in its namespace, and with the last process all mounts and the network go;
//! - the supervisor then removes the cgroups and the run directory. If it is killed itself, `registry::sweep` does.
//!
//! The supervisor is single-threaded, as a parent-death signal is sent when the parent *thread* ends. It watches the
//! pipe from the process that asked for the cluster: the end of that process, however it comes, closes the pipe. With
//! PID 1 of the first node, which has all of Kubernetes, the cluster ends; a further node may go and come back.

mod boot_id;
mod devices;
mod init;
mod mounts;
mod network;
mod node;
mod nodes;
mod services;

use std::fs;
use std::io::{BufReader, Read, stdin, stdout};
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open, setsid};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use crate::control::{NodeRequest, Reply, read_line, write_line};
use crate::processes::{ProcessId, wait_for_end};
use crate::record::Spec;
use crate::registry::Claim;
use nodes::Nodes;

pub use init::run as run_init;

/// What the supervisor is told first.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) spec: Spec,
    /// Programs of the nodes: the name of the link and what it points to.
    pub(crate) programs: Vec<(String, std::path::PathBuf)>,
}

/// The one byte that makes a cluster live on without the process that asked for it.
pub(crate) const DETACH: u8 = b'd';

/// How long a request may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

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
    let mut nodes = Nodes::of(&order.spec);
    let outcome = match furnish(&order).and_then(|listener| nodes.start_all().map(|()| listener)) {
        Ok(listener) => {
            let answered = write_line(&mut stdout(), &Reply::Ready);
            answered.and_then(|()| watch(&mut nodes, &listener, &told_to_end))
        }
        Err(error) => write_line(&mut stdout(), &Reply::Failed(format!("{error:#}"))),
    };
    nodes.kill_all().and(outcome).and(claim.remove())
}

/// What must be on the host before the first PID 1. Returns the socket that requests come in on.
fn furnish(order: &Order) -> Result<UnixListener> {
    for node in &order.spec.nodes {
        let directory = order.spec.directory_of(node);
        for path in [directory.logs(), directory.bin(), directory.config()] {
            fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        }
        for (name, program) in &order.programs {
            let link = directory.bin().join(name);
            symlink(program, &link).with_context(|| format!("linking {}", link.display()))?;
        }
    }
    let socket = order.spec.directory().supervisor_socket();
    let listener = UnixListener::bind(&socket).with_context(|| format!("listening on {}", socket.display()))?;
    listener.set_nonblocking(true).context("listening")?;
    Ok(listener)
}

/// Returns when the cluster is to end: its owner is gone, a signal came, or the first PID 1 died.
fn watch(nodes: &mut Nodes<'_>, listener: &UnixListener, told_to_end: &AtomicBool) -> Result<()> {
    let mut owner = Some(stdin());
    // A signal between the check and the poll would be slept over, hence the time limit.
    let timeout = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
    while !told_to_end.load(Ordering::Relaxed) {
        let (asked, owner_spoke) = {
            let mut watched = vec![PollFd::new(listener, PollFlags::IN)];
            // Before the PID 1s, so that its place among those watched is known.
            if let Some(owner) = &owner {
                watched.push(PollFd::new(owner, PollFlags::IN));
            }
            watched.extend(nodes.handles().map(|handle| PollFd::from_borrowed_fd(handle, PollFlags::IN)));
            match poll(&mut watched, Some(&timeout)) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error).context("watching the cluster"),
            }
            let owner_spoke = owner.is_some() && !watched[1].revents().is_empty();
            (!watched[0].revents().is_empty(), owner_spoke)
        };
        if nodes.bury_dead()? {
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
        if asked
            && let Ok((stream, _)) = listener.accept()
            && let Err(error) = answer(stream, nodes)
        {
            eprintln!("a request failed: {error:#}");
        }
    }
    Ok(())
}

fn answer(mut stream: UnixStream, nodes: &mut Nodes<'_>) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let outcome = match read_line(&mut BufReader::new(&stream))? {
        NodeRequest::Start { node } => nodes.start(&node),
        NodeRequest::Kill { node } => nodes.kill(&node),
    };
    let reply = outcome.map_or_else(|error| Reply::Failed(format!("{error:#}")), |()| Reply::Ready);
    write_line(&mut stream, &reply)
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
