use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::Point;
use crate::place::Directories;
use crate::tracer::{END, Tracer};

/// A process whose changes below some directories are watched, until this ends or is dropped; then it runs on as if
/// nothing had been.
///
/// As long as it is watched nobody else in this process may wait for its end: they would take what the watch waits for.
#[derive(Debug)]
pub struct Watch {
    process: Pid,
    tracing: Option<JoinHandle<(Seen, nix::Result<()>)>>,
}

/// What happens to the process. Points are counted from 0, as in [`Seen::points`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// Nothing.
    None,
    /// It is killed before it makes a call.
    Kill {
        /// The point of the call.
        at: usize,
    },
    /// It is killed when a write has taken half of its data; before the call where that is no write(2) or pwrite(2).
    Tear {
        /// The point of the call.
        at: usize,
    },
    /// A call fails.
    Fail {
        /// The point of the call.
        at: usize,
        /// What it fails with.
        errno: Errno,
        /// Whether all those that follow fail too.
        and_all_after: bool,
    },
}

/// What a watch saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Every point that the process came to, in order, also those at which it was interrupted.
    pub points: Vec<Point>,
    /// The first point at which it was interrupted.
    pub interrupted: Option<usize>,
}

impl Watch {
    /// Watches a process from when this returns. `process` is a child of this process, or this is root.
    ///
    /// # Errors
    /// When there is no such process, or tracing it is not allowed.
    pub fn start(process: u32, directories: &[PathBuf], interruption: Interruption) -> io::Result<Self> {
        let process = i32::try_from(process).map(Pid::from_raw).map_err(io::Error::other)?;
        let directories = Directories::new(directories);
        // The kernel knows the thread that traces, and takes no order from another.
        let (ready, is_ready) = mpsc::channel();
        let trace = move || match Tracer::attach(process, directories, interruption, ready) {
            Ok(mut tracer) => {
                let result = tracer.run();
                (tracer.seen, result)
            }
            Err(error) => (Seen::default(), Err(error)),
        };
        let tracing = thread::Builder::new().name("tracer".to_owned()).spawn(trace)?;
        let mut watch = Self { process, tracing: Some(tracing) };
        match is_ready.recv() {
            Ok(()) => Ok(watch),
            // Given up by a tracer that has failed or whose process has ended.
            Err(_) => match watch.join() {
                Err(error) => Err(error),
                Ok(_) => Err(io::Error::from(Errno::ESRCH)),
            },
        }
    }

    /// Whether the process has ended.
    pub fn has_ended(&self) -> bool {
        self.tracing.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends the watch and says what it saw. If the process was killed, it has ended then.
    ///
    /// # Errors
    /// When the process could not be traced to the end.
    pub fn end(mut self) -> io::Result<Seen> {
        self.join()
    }

    fn join(&mut self) -> io::Result<Seen> {
        let Some(tracing) = self.tracing.take() else { return Ok(Seen::default()) };
        if !tracing.is_finished() {
            // The tracer waits for its process and for nothing else, so it is told by way of it. An end that comes
            // first is what it waits for as well.
            let _ = kill(self.process, END);
        }
        let (seen, result) = tracing.join().map_err(|_| io::Error::other("the tracer panicked"))?;
        result?;
        Ok(seen)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.join();
    }
}

impl Interruption {
    /// Whether it is due at a point.
    pub(crate) fn is_due(self, point: usize) -> bool {
        match self {
            Self::None => false,
            Self::Kill { at } | Self::Tear { at } | Self::Fail { at, and_all_after: false, .. } => at == point,
            Self::Fail { at, and_all_after: true, .. } => at <= point,
        }
    }
}
