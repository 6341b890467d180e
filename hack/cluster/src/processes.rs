//! Processes, told apart from later ones with the same id.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process of this boot: ids come back, but not with the same start time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) pid: i32,
    /// In clock ticks since boot, from `/proc/PID/stat`.
    pub(crate) started: u64,
}

impl ProcessId {
    pub(crate) fn of(pid: i32) -> Result<Self> {
        let stat =
            fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("looking for process {pid}"))?;
        let started = start_time(&stat).with_context(|| format!("/proc/{pid}/stat has no start time"))?;
        Ok(Self { pid, started })
    }

    pub(crate) fn is_alive(&self) -> bool {
        Self::of(self.pid).is_ok_and(|now| now == *self)
    }
}

/// The 22nd field; the second is a name that may hold spaces and brackets.
fn start_time(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Kills a process and waits until it is gone, up to ten seconds. One that is gone already is fine.
pub(crate) fn kill_if_same(process: &ProcessId) -> Result<()> {
    let Some(pid) = Pid::from_raw(process.pid) else { return Ok(()) };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
    // The handle cannot change its meaning any more, so this check holds for what follows.
    if process.is_alive() {
        pidfd_send_signal(&handle, Signal::KILL).with_context(|| format!("killing process {}", process.pid))?;
        wait_for_end(&handle, Duration::from_secs(10))?;
    }
    Ok(())
}

/// Whether the process behind a pidfd ended within `patience`.
pub(crate) fn wait_for_end(handle: &impl AsFd, patience: Duration) -> Result<bool> {
    let timeout = Timespec::try_from(patience).context("a patience of that length")?;
    let mut handles = [PollFd::new(handle, PollFlags::IN)];
    Ok(poll(&mut handles, Some(&timeout))? > 0)
}

/// The id on this side of a process that has the id `inside` in the PID namespace of `init`.
pub(crate) fn outside_pid(init: i32, inside: i32) -> Option<i32> {
    let namespace = fs::read_link(format!("/proc/{init}/ns/pid")).ok()?;
    let pids = fs::read_dir("/proc").ok()?.flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()).find(|pid| {
        let process = Path::new("/proc").join(pid.to_string());
        fs::read_link(process.join("ns/pid")).is_ok_and(|its| its == namespace)
            && fs::read_to_string(process.join("status")).is_ok_and(|status| innermost_pid(&status) == Some(inside))
    })
}

/// The last of the ids that `/proc/PID/status` lists, one for each nested namespace.
fn innermost_pid(status: &str) -> Option<i32> {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_survives_a_hostile_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 1 2 0 0 20 0 1 0 12345 1000 200";
        assert_eq!(start_time(stat), Some(12345));
    }

    #[test]
    fn a_process_is_itself_and_no_other() {
        let me = ProcessId::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(me.is_alive());
        assert!(!ProcessId { started: me.started + 1, ..me }.is_alive());
    }

    #[test]
    fn the_innermost_id_is_the_last() {
        assert_eq!(innermost_pid("Name:\tx\nNSpid:\t4711\t12\n"), Some(12));
        assert_eq!(innermost_pid("NSpid:\t4711\n"), Some(4711));
    }
}
