//! The thread that traces: it answers every stop of every thread of the process.

use std::collections::BTreeSet;
use std::fs;
use std::sync::mpsc::Sender;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::entry::Entry;
use crate::place::Directories;
use crate::{Interruption, Seen};

/// What tells the tracer to end. It never arrives; a process that got it would do nothing, unless it drew on a terminal.
pub(crate) const END: Signal = Signal::SIGWINCH;

/// Traces one process.
pub(crate) struct Tracer {
    process: Pid,
    directories: Directories,
    interruption: Interruption,
    pub(crate) seen: Seen,
    /// Every thread that is traced.
    threads: BTreeSet<Pid>,
    /// Threads whose calls do not stop yet. When the last one's do, [`Tracer::ready`] is told.
    unstopped: BTreeSet<Pid>,
    ready: Option<Sender<()>>,
    /// The thread that is writing half of something.
    torn: Option<Pid>,
    leaving: bool,
}

impl Tracer {
    /// Begins to trace all threads of a process.
    pub(crate) fn attach(
        process: Pid,
        directories: Directories,
        interruption: Interruption,
        ready: Sender<()>,
    ) -> nix::Result<Self> {
        let threads = seize(process)?;
        Ok(Self {
            process,
            directories,
            interruption,
            seen: Seen::default(),
            unstopped: threads.clone(),
            threads,
            ready: Some(ready),
            torn: None,
            leaving: false,
        })
    }

    /// Traces until the process ends or until told to end.
    pub(crate) fn run(&mut self) -> nix::Result<()> {
        while let Some(status) = self.next()? {
            match status {
                WaitStatus::Exited(thread, _) | WaitStatus::Signaled(thread, ..) => {
                    self.threads.remove(&thread);
                    self.unstopped.remove(&thread);
                }
                WaitStatus::PtraceSyscall(thread) => {
                    alive(self.call(thread))?;
                    self.let_go(thread, None)?;
                }
                // A signal on its way to the process.
                WaitStatus::PtraceEvent(thread, END, 0) => {
                    self.leave();
                    self.let_go(thread, None)?;
                }
                WaitStatus::PtraceEvent(thread, signal, 0) => self.let_go(thread, Some(signal))?,
                WaitStatus::PtraceEvent(thread, _, libc::PTRACE_EVENT_CLONE) => {
                    // It is traced from its first instruction on; its first stop may come before or after this one.
                    let new = ptrace::getevent(thread).ok().and_then(|new| i32::try_from(new).ok());
                    self.threads.extend(new.map(Pid::from_raw));
                    self.let_go(thread, None)?;
                }
                WaitStatus::PtraceEvent(thread, ..) => {
                    self.threads.insert(thread);
                    self.let_go(thread, None)?;
                }
                _ => {}
            }
            if self.unstopped.is_empty()
                && let Some(ready) = self.ready.take()
            {
                let _ = ready.send(());
            }
            if self.leaving && self.threads.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// What happened next to a thread; `None` when the process has ended.
    fn next(&self) -> nix::Result<Option<WaitStatus>> {
        // Of this thread's tracees alone: the process may have other children, and other tracers.
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED | WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        let retried = |id: &dyn Fn() -> Id<'static>, flags| loop {
            match waitid(id(), flags) {
                Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => return Ok(None),
                result => return result.map(Some),
            }
        };
        // A look first: the end of the process is its parent's to wait for.
        let Some(peeked) = retried(&|| Id::All, flags | WaitPidFlag::WNOWAIT)? else { return Ok(None) };
        match (peeked, peeked.pid()) {
            (WaitStatus::Exited(ended, _) | WaitStatus::Signaled(ended, ..), _) if ended == self.process => Ok(None),
            (_, Some(thread)) => retried(&|| Id::Pid(thread), flags),
            (_, None) => Ok(Some(peeked)),
        }
    }

    /// A thread enters a call or leaves it.
    fn call(&mut self, thread: Pid) -> nix::Result<()> {
        if self.torn == Some(thread) {
            return kill(self.process, Signal::SIGKILL);
        }
        let Some(entry) = Entry::of(thread)? else { return Ok(()) };
        if self.is_dying() {
            return Ok(());
        }
        let Some(point) = self.directories.point(self.process, &entry) else { return Ok(()) };
        let (number, call) = (self.seen.points.len(), point.call);
        self.seen.points.push(point);
        if !self.interruption.is_due(number) {
            return Ok(());
        }
        self.seen.interrupted.get_or_insert(number);
        match self.interruption {
            Interruption::None => Ok(()),
            Interruption::Fail { errno, .. } => entry.fail(errno),
            Interruption::Tear { .. } if matches!(call, "write" | "pwrite64") => {
                self.torn = Some(entry.thread());
                entry.halve()
            }
            Interruption::Kill { .. } | Interruption::Tear { .. } => kill(self.process, Signal::SIGKILL),
        }
    }

    /// Whether what the process still does comes to nothing, or is not to be counted.
    fn is_dying(&self) -> bool {
        let deadly = matches!(self.interruption, Interruption::Kill { .. } | Interruption::Tear { .. });
        deadly && self.seen.interrupted.is_some()
    }

    /// Lets a stopped thread run on: to its next stop or, when this ends, without any.
    fn let_go(&mut self, thread: Pid, signal: Option<Signal>) -> nix::Result<()> {
        self.unstopped.remove(&thread);
        if self.leaving {
            self.threads.remove(&thread);
            return alive(ptrace::detach(thread, signal));
        }
        alive(ptrace::syscall(thread, signal))
    }

    /// Stops every thread, since only a stopped one can be let go for good.
    fn leave(&mut self) {
        // A process that is to be killed is waited for.
        self.leaving = self.torn.is_none();
        if self.leaving {
            for thread in &self.threads {
                // One that has ended meanwhile says so.
                let _ = ptrace::interrupt(*thread);
            }
        }
    }
}

/// A thread that was killed while it was stopped is gone; that comes up next.
fn alive(result: nix::Result<()>) -> nix::Result<()> {
    if result == Err(Errno::ESRCH) { Ok(()) } else { result }
}

/// Traces every thread of a process and stops it. Says which they are.
fn seize(process: Pid) -> nix::Result<BTreeSet<Pid>> {
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE;
    let mut seized = BTreeSet::new();
    loop {
        let new: Vec<_> = threads(process)?.difference(&seized).copied().collect();
        if new.is_empty() {
            return Ok(seized);
        }
        for thread in new {
            // Threads that are traced already were made by one of ours since the look, and stop by themselves.
            match ptrace::seize(thread, options) {
                Ok(()) => alive(ptrace::interrupt(thread))?,
                Err(Errno::EPERM) if is_traced_by_us(thread) => {}
                Err(Errno::ESRCH) if thread != process => continue,
                // As the kernel answers of one whose end has begun (`ptrace_attach` in kernel/ptrace.c).
                Err(Errno::EPERM) if thread != process && is_ending(thread) => continue,
                Err(error) => return Err(error),
            }
            seized.insert(thread);
        }
    }
}

fn threads(process: Pid) -> nix::Result<BTreeSet<Pid>> {
    let entries = fs::read_dir(format!("/proc/{process}/task")).map_err(|_| Errno::ESRCH)?;
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(ids.map(Pid::from_raw).collect())
}

fn is_traced_by_us(thread: Pid) -> bool {
    status(thread, "TracerPid:").is_some_and(|tracer| tracer == nix::unistd::gettid().to_string())
}

/// Whether a thread is dead or gone.
fn is_ending(thread: Pid) -> bool {
    status(thread, "State:").is_none_or(|state| state.starts_with(['X', 'Z']))
}

/// What the kernel says of a thread; `None` if it is gone.
fn status(thread: Pid, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(field)).map(|value| value.trim().to_owned())
}
