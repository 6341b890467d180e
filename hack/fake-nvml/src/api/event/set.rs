//! One event set: what it listens to, and how far it has read.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nvml_wrapper_sys::bindings::nvmlEventSet_t;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use simulated_hardware::{Event, Hardware, NvmlError, PciAddress};

use crate::abi::Result;
use crate::view::View;

/// Sets that were created and not freed, by handle.
static SETS: LazyLock<Mutex<Sets>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Sets {
    by_handle: HashMap<usize, Arc<EventSet>>,
    last_handle: usize,
}

/// What a client listens to.
pub(super) struct EventSet {
    registered: Mutex<HashMap<PciAddress, u64>>,
    /// Sequence number of the last event that was looked at.
    last: Mutex<u64>,
    /// Becomes readable when the state file is replaced. Absent where the kernel has none left to give.
    changes: Option<OwnedFd>,
}

/// Where changes cannot be watched, a wait still sees them, at the latest after this time.
const LATEST_LOOK: Duration = Duration::from_millis(100);

/// A set that gives out what is reported from now on.
pub(super) fn create(machine: &View) -> Result<nvmlEventSet_t> {
    let directory = machine.state.path().parent().ok_or(NvmlError::UNKNOWN)?;
    let changes = watch(directory).ok();
    let set = EventSet { registered: Mutex::default(), last: Mutex::new(machine.hardware.last_event), changes };
    let mut sets = lock(&SETS);
    sets.last_handle += 1;
    let handle = sets.last_handle;
    sets.by_handle.insert(handle, Arc::new(set));
    Ok(std::ptr::without_provenance_mut(handle))
}

fn watch(directory: &Path) -> rustix::io::Result<OwnedFd> {
    let changes = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(&changes, directory, inotify::WatchFlags::MOVED_TO)?;
    Ok(changes)
}

/// The set of a handle. Stays usable for who has it, also if another thread frees it meanwhile.
pub(super) fn find(handle: nvmlEventSet_t) -> Result<Arc<EventSet>> {
    lock(&SETS).by_handle.get(&handle.addr()).cloned().ok_or(NvmlError::INVALID_ARGUMENT)
}

/// Makes a handle invalid.
pub(super) fn free(handle: nvmlEventSet_t) -> Result {
    lock(&SETS).by_handle.remove(&handle.addr()).map(|_| ()).ok_or(NvmlError::INVALID_ARGUMENT)
}

impl EventSet {
    /// Listens to more kinds of events of a GPU.
    pub(super) fn register(&self, gpu: PciAddress, types: u64) {
        *lock(&self.registered).entry(gpu).or_default() |= types;
    }

    /// Whether it listens to anything of a GPU.
    pub(super) fn is_about(&self, gpu: PciAddress) -> bool {
        lock(&self.registered).contains_key(&gpu)
    }

    /// The oldest event that it listens to and has not given out. Each event goes to one waiter.
    pub(super) fn take(&self, hardware: &Hardware) -> Option<Event> {
        let registered = lock(&self.registered);
        let mut last = lock(&self.last);
        let heard = |event: &&Event| registered.get(&event.gpu).is_some_and(|types| types & event.kind.bit() != 0);
        let event = hardware.events.iter().filter(|event| event.sequence > *last).find(heard);
        *last = event.map_or(hardware.last_event.max(*last), |event| event.sequence);
        event.cloned()
    }

    /// Asks `look` now and after each change of the state, until it has something or the time is over.
    pub(super) fn wait<T>(&self, timeout: Duration, look: impl Fn() -> Result<Option<T>>) -> Result<T> {
        let start = Instant::now();
        loop {
            if let Some(found) = look()? {
                return Ok(found);
            }
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(NvmlError::TIMEOUT);
            }
            self.sleep(left.min(LATEST_LOOK));
        }
    }

    /// Until the state is replaced or the time is over.
    fn sleep(&self, at_most: Duration) {
        let Some(changes) = &self.changes else { return std::thread::sleep(at_most) };
        let mut poll_changes = [PollFd::new(changes, PollFlags::IN)];
        let at_most = Timespec { tv_sec: 0, tv_nsec: at_most.subsec_nanos().into() };
        // An interrupted or failed poll only makes the next look come earlier.
        if poll(&mut poll_changes, Some(&at_most)).is_ok_and(|ready| ready > 0) {
            let mut buffer = [0u8; 4096];
            while rustix::io::read(changes, &mut buffer).is_ok_and(|length| length > 0) {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
