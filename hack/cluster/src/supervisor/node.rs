//! PID 1 of a node, as its parent sees it.

use std::env;
use std::fs::{File, OpenOptions};
use std::io::BufReader;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use crate::control::{Reply, read_line, write_line};
use crate::layout::RunDirectory;
use crate::processes::ProcessId;
use crate::record::NodeSpec;

/// What PID 1 is told first.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Birth {
    pub(super) node: NodeSpec,
    /// The node's run directory.
    pub(super) directory: RunDirectory,
    /// Whether its network is the one that the others are plugged into.
    pub(super) first: bool,
}

/// A node that is up.
pub(super) struct Running {
    init: Child,
    /// By which its end is noticed.
    handle: OwnedFd,
}

impl Running {
    /// Starts PID 1, which makes the node's surroundings, and waits until it takes requests.
    pub(super) fn start(birth: &Birth) -> Result<Self> {
        let log = birth.directory.log_of("node");
        let file = OpenOptions::new().create(true).append(true).open(&log);
        let mut init = Command::new(env::current_exe().context("finding the supervisor's own program")?);
        init.arg("init").stdin(Stdio::piped()).stdout(Stdio::piped());
        init.stderr(file.with_context(|| format!("opening {}", log.display()))?);
        let init = in_new_pid_namespace(|| init.spawn().context("starting PID 1 of the node"))?;
        let pid = i32::try_from(init.id()).ok().and_then(Pid::from_raw).context("PID 1 has no id")?;
        let handle = pidfd_open(pid, PidfdFlags::empty()).context("watching PID 1 of the node")?;
        let mut running = Self { init, handle };
        match running.introduce(birth) {
            Ok(()) => Ok(running),
            Err(error) => {
                running.kill()?;
                Err(error)
            }
        }
    }

    fn introduce(&mut self, birth: &Birth) -> Result<()> {
        let input = self.init.stdin.as_mut().context("PID 1 has no standard input")?;
        write_line(input, birth).context("telling PID 1 what to be")?;
        let output = self.init.stdout.as_mut().context("PID 1 has no standard output")?;
        match read_line(&mut BufReader::new(output)).context("waiting for PID 1 of the node")? {
            Reply::Ready => Ok(()),
            Reply::Failed(reason) => bail!("making the node: {reason}"),
        }
    }

    pub(super) fn id(&self) -> Result<ProcessId> {
        ProcessId::of(i32::try_from(self.init.id())?)
    }

    /// Readable once it has ended.
    pub(super) fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.init.try_wait().context("looking after PID 1 of the node")?.is_some())
    }

    /// Kills PID 1 and with it everything in the node; returns when all of it is gone.
    pub(super) fn kill(mut self) -> Result<()> {
        self.init.kill().context("killing PID 1 of the node")?;
        self.init.wait().context("waiting for the node's processes to end")?;
        Ok(())
    }
}

/// Has the first child that is born in there be PID 1 of a new PID namespace, and goes back to one's own: every later
/// child would be born in there too, and a process can make a further namespace only from its own.
fn in_new_pid_namespace<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let own = File::open("/proc/self/ns/pid").context("opening the supervisor's own PID namespace")?;
    super::leave(UnshareFlags::NEWPID).context("making a PID namespace (are you root?)")?;
    let outcome = work();
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::ProcessID)).context("leaving a PID namespace")?;
    outcome
}
