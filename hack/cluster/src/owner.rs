//! The starting process's end of a cluster: the supervisor it started and the pipe that keeps it alive.

use std::env;
use std::io::{BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::control::{Reply, read_line, write_line};
use crate::supervisor::{DETACH, Order};

const SUPERVISOR: &str = "cluster-supervisor";

/// How long a supervisor may take to remove its cluster.
pub(crate) const END_PATIENCE: Duration = Duration::from_secs(30);

/// A supervisor that was started here. Dropping it ends the cluster, unless it was detached.
#[derive(Debug)]
pub(crate) struct Owner {
    supervisor: Child,
    /// Closed by the kernel when this process ends, however it does.
    pipe: Option<ChildStdin>,
    detached: bool,
}

impl Owner {
    /// Starts a supervisor and waits until PID 1 of the node takes requests.
    pub(crate) fn start(order: &Order) -> Result<Self> {
        let program = find_supervisor()?;
        let mut supervisor = Command::new(&program)
            .arg("run")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let pipe = supervisor.stdin.take();
        let output = supervisor.stdout.take();
        let mut owner = Self { supervisor, pipe, detached: false };
        write_line(owner.pipe.as_mut().context("the supervisor has no standard input")?, order)
            .context("telling the supervisor what to start")?;
        let mut output = BufReader::new(output.context("the supervisor has no standard output")?);
        match read_line(&mut output).context("waiting for the supervisor")? {
            Reply::Ready => Ok(owner),
            Reply::Failed(reason) => bail!("{reason}"),
        }
    }

    /// Lets the cluster live on without this process.
    pub(crate) fn detach(&mut self) -> Result<()> {
        if let Some(mut pipe) = self.pipe.take() {
            pipe.write_all(&[DETACH]).context("detaching the supervisor")?;
        }
        self.detached = true;
        Ok(())
    }

    /// Ends a cluster that was not detached, and waits for the supervisor in any case.
    pub(crate) fn end(mut self) {
        self.close_and_wait();
        self.detached = true;
    }

    fn close_and_wait(&mut self) {
        drop(self.pipe.take());
        let deadline = Instant::now() + END_PATIENCE;
        while Instant::now() < deadline {
            if !matches!(self.supervisor.try_wait(), Ok(None)) {
                return;
            }
            sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if !self.detached {
            self.close_and_wait();
        }
    }
}

/// The supervisor lies beside this program, or above it: cargo puts test programs into a directory of their own.
fn find_supervisor() -> Result<PathBuf> {
    let program = env::current_exe().context("finding this program's own path")?;
    let found =
        program.ancestors().skip(1).take(4).map(|directory| directory.join(SUPERVISOR)).find(|path| path.is_file());
    found.with_context(|| {
        format!("no {SUPERVISOR} beside {} or above it: run `cargo build -p cluster`", program.display())
    })
}
