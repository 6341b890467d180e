//! The thread that looks at the hardware: NVML blocks, and may block for long, so it never runs on an async worker.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tessera_core::{Inventory, Offering};
use tessera_driver::{Backend, Work};
use tessera_vocabulary::DeviceName;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics::Metrics;
use crate::notices::{Notice, Notices};

/// How often it is checked whether a look hangs.
const PULSE: Duration = Duration::from_secs(5);
/// So often a look is repeated that the agent's own work came between.
const LOOKS: u32 = 5;
/// A look at many GPUs whose driver has to be woken for each takes seconds; what takes longer than this hangs.
const SILENCE: Duration = Duration::from_secs(60);

/// What the hardware was like at the last look. `None` before the first.
pub(crate) type Observed = watch::Receiver<Option<Inventory>>;

/// What is known of the hardware, and the way to say that it was changed since the last look. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Hardware {
    observed: Arc<watch::Sender<Option<Inventory>>>,
    /// How often it was changed: a look that began before a change and ended after it may have seen either.
    changes: Arc<AtomicU64>,
}

impl Hardware {
    /// Before the first look.
    pub(crate) fn new() -> Self {
        Self { observed: Arc::new(watch::Sender::new(None)), changes: Arc::default() }
    }

    /// What was seen, now and from now on.
    pub(crate) fn observed(&self) -> Observed {
        self.observed.subscribe()
    }

    /// Something that a claim had was removed: what was seen of it is no longer so. To be said before the ledger forgets
    /// whose it was.
    pub(crate) fn undone(&self, work: &Work) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        self.observed.send_if_modified(|current| {
            let next = current.clone().map(|inventory| inventory.without(work));
            let changed = *current != next;
            *current = next;
            changed
        });
    }

    /// Looks until nothing was changed meanwhile.
    fn look<T>(&self, mut look: impl FnMut() -> T) -> T {
        for _ in 0..LOOKS {
            let before = self.changes.load(Ordering::SeqCst);
            let seen = look();
            if self.changes.load(Ordering::SeqCst) == before {
                return seen;
            }
        }
        look()
    }
}

/// Stops the thread when dropped; a look that hangs is not waited for.
pub(crate) struct Watching {
    _stop: mpsc::Sender<()>,
    /// When the look began that is under way.
    begun: Arc<Mutex<Option<Instant>>>,
}

impl Watching {
    /// Tells of a look that hangs, until stopped: the thread itself cannot.
    pub(crate) async fn watch_over(self, metrics: Metrics, notices: Notices, stop: CancellationToken) {
        let mut told = false;
        while stop.run_until_cancelled(tokio::time::sleep(PULSE)).await.is_some() {
            let begun = *self.begun.lock().unwrap_or_else(PoisonError::into_inner);
            let took = begun.map(|begun| begun.elapsed()).unwrap_or_default();
            metrics.looking_since(took);
            if took >= SILENCE && !told {
                notices.tell(Notice::HardwareSilent { seconds: took.as_secs() });
            }
            told = took >= SILENCE;
        }
    }
}

/// Looks at the hardware now and then every `interval`, and tells when something changed.
/// `in_use` names the accelerators that claims have: they are never forgotten. It reads what other agents changed.
pub(crate) fn watch(
    hardware: &Hardware,
    mut backend: impl Backend + 'static,
    interval: Duration,
    offering: Offering,
    in_use: impl Fn() -> BTreeSet<DeviceName> + Send + 'static,
    metrics: Metrics,
) -> std::io::Result<Watching> {
    let watched = hardware.clone();
    let (stop, stopped) = mpsc::channel::<()>();
    let begun = Arc::<Mutex<Option<Instant>>>::default();
    let looking = Arc::clone(&begun);
    thread::Builder::new().name("hardware".to_owned()).spawn(move || {
        let mut inventory = Inventory::new(offering);
        let mut trouble = String::new();
        loop {
            *looking.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            // Asked before, so that whose anything is that is seen is known, also if another agent undoes it right then.
            let look = || {
                in_use();
                (backend.discover(), in_use())
            };
            let (next, now_wrong) = match watched.look(look) {
                (Ok(found), in_use) => (inventory.after(&found, &in_use), found.problems.join("; ")),
                (Err(error), _) => {
                    metrics.discovery_failed();
                    (inventory.unreachable(&error.to_string()), error.to_string())
                }
            };
            *looking.lock().unwrap_or_else(PoisonError::into_inner) = None;
            if now_wrong != trouble {
                report(&now_wrong, next.devices().len());
                trouble = now_wrong;
            }
            metrics.observed(&next);
            watched.observed.send_if_modified(|current| {
                let changed = current.as_ref() != Some(&next);
                if changed {
                    info!(devices = next.devices().len(), "the hardware changed");
                    *current = Some(next.clone());
                }
                changed
            });
            inventory = next;
            if stopped.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    })?;
    Ok(Watching { _stop: stop, begun })
}

/// Said once for each change, not at each look.
fn report(trouble: &str, devices: usize) {
    if trouble.is_empty() {
        info!(devices, "the hardware answers again");
    } else {
        warn!(devices, trouble, "hardware trouble; looking again soon");
    }
}
