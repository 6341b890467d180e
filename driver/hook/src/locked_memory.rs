use std::io::{self, Read};

use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::oci::{self, StateError};

/// No limit, neither one that a process may lift itself nor one above that.
const NO_LIMIT: Rlimit = Rlimit { current: None, maximum: None };

/// Why nothing is known of a container's limit. The runtime does not start it then.
#[derive(Debug, thiserror::Error)]
pub enum LockedMemoryError {
    /// The runtime does not say which process is the container's.
    #[error(transparent)]
    State(#[from] StateError),
    /// There is no such process.
    #[error("the limit of locked memory of process {pid}: {source}")]
    Process {
        /// The container's process.
        pid: i32,
        /// What the system said.
        source: io::Error,
    },
}

/// Lets the container whose state is read from `state` lock as much memory as it likes: what a device that is reached by
/// VFIO may read and write is locked, and the kernel's default is 8 MiB. For a `createRuntime` hook: those run outside of
/// the container, where its limits can be lifted, and what a runtime sets itself later wins. May be repeated.
///
/// A runtime that may not lift limits (`CAP_SYS_RESOURCE`) starts the container as it is: whether its limit is enough, only
/// its program knows.
///
/// # Errors
/// See [`LockedMemoryError`].
pub fn lift_locked_memory(state: impl Read) -> Result<(), LockedMemoryError> {
    let pid = oci::container_process(state)?;
    match prlimit(Some(pid), Resource::Memlock, NO_LIMIT) {
        Ok(_) => Ok(()),
        Err(Errno::PERM) => {
            eprintln!(
                "tessera-hook: the container runtime may not lift the limit of locked memory; run it with \
                 LimitMEMLOCK=infinity where programs find it too low"
            );
            Ok(())
        }
        Err(source) => Err(LockedMemoryError::Process { pid: Pid::as_raw(Some(pid)), source: source.into() }),
    }
}
