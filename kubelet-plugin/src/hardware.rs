//! The thread that looks at the hardware: NVML blocks, and may block for long, so it never runs on an async worker.

use std::collections::BTreeSet;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tessera_core::Inventory;
use tessera_driver::Backend;
use tessera_vocabulary::DeviceName;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics::Metrics;
use crate::notices::{Notice, Notices};

/// How often it is checked whether a look hangs.
const PULSE: Duration = Duration::from_secs(5);
/// A look at many GPUs whose driver has to be woken for each takes seconds; what takes longer than this hangs.
const SILENCE: Duration = Duration::from_secs(60);

/// What the hardware was like at the last look. `None` before the first.
pub(crate) type Observed = watch::Receiver<Option<Inventory>>;

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
/// `held` names the devices that claims hold: they are never forgotten.
pub(crate) fn watch(
    mut backend: impl Backend + 'static,
    interval: Duration,
    held: impl Fn() -> BTreeSet<DeviceName> + Send + 'static,
    metrics: Metrics,
) -> std::io::Result<(Observed, Watching)> {
    let (observed, receiver) = watch::channel(None);
    let (stop, stopped) = mpsc::channel::<()>();
    let begun = Arc::<Mutex<Option<Instant>>>::default();
    let looking = Arc::clone(&begun);
    thread::Builder::new().name("hardware".to_owned()).spawn(move || {
        let mut inventory = Inventory::default();
        let mut trouble = String::new();
        loop {
            *looking.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            let (next, now_wrong) = match backend.discover() {
                Ok(found) => (inventory.after(&found, &held()), found.problems.join("; ")),
                Err(error) => {
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
            observed.send_if_modified(|current| {
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
    Ok((receiver, Watching { _stop: stop, begun }))
}

/// Said once for each change, not at each look.
fn report(trouble: &str, devices: usize) {
    if trouble.is_empty() {
        info!(devices, "the hardware answers again");
    } else {
        warn!(devices, trouble, "hardware trouble; looking again soon");
    }
}
