//! The thread that looks at the hardware: NVML blocks, and may block for long, so it never runs on the async thread.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tessera_core::{Inventory, Layouts, Offering};
use tessera_driver::{Backend, Work};
use tessera_vocabulary::{DeviceName, DriverName, PciAddress};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::bell::{Bell, Heard};
use crate::metrics::Metrics;
use crate::notices::{Notice, Notices};
use crate::uevents::Uevents;

/// How often it is checked whether a look hangs.
const PULSE: Duration = Duration::from_secs(5);
/// So often a look is repeated that the agent's own work came between.
const LOOKS: u32 = 5;
/// A look at many GPUs whose driver has to be woken for each takes seconds; what takes longer than this hangs.
const SILENCE: Duration = Duration::from_secs(60);

/// A device that comes or goes is told of in several messages, and its files come or go a moment after the first: so long
/// is waited before the look, and what is told meanwhile needs no look of its own.
const SETTLE: Duration = Duration::from_millis(200);

/// What the hardware was like at the last look. `None` before the first.
pub(crate) type Observed = watch::Receiver<Option<Inventory>>;

/// What there is before the first look.
pub(crate) static NOTHING: Inventory = Inventory::EMPTY;

/// What is known of the hardware, and the way to say that it was changed since the last look. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Hardware {
    driver: DriverName,
    observed: Arc<watch::Sender<Option<Inventory>>>,
    meanwhile: Arc<Mutex<Meanwhile>>,
    /// Has it looked at before its time.
    bell: Bell,
    /// The number of the look that was told of last.
    told: Arc<watch::Sender<u64>>,
}

/// What the agent itself has done to the hardware since the look began that is under way: it may have seen either.
#[derive(Debug, Default)]
struct Meanwhile {
    undone: Vec<Work>,
    /// What is worked on now, as often as it is.
    working: Vec<PciAddress>,
    /// What was worked on.
    worked_on: BTreeSet<PciAddress>,
    /// What devices are offered as.
    layouts: Layouts,
    /// How many looks have begun.
    begun: u64,
}

/// As long as an accelerator is worked on.
#[derive(Debug)]
pub(crate) struct Working<'a> {
    hardware: &'a Hardware,
    accelerator: PciAddress,
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        let mut meanwhile = self.hardware.meanwhile();
        if let Some(at) = meanwhile.working.iter().position(|working| *working == self.accelerator) {
            meanwhile.working.swap_remove(at);
        }
    }
}

impl Hardware {
    /// Before the first look.
    pub(crate) fn new(driver: DriverName) -> Self {
        let (observed, told) = (Arc::new(watch::Sender::new(None)), Arc::new(watch::Sender::new(0)));
        Self { driver, observed, meanwhile: Arc::default(), bell: Bell::default(), told }
    }

    /// What was seen, now and from now on.
    pub(crate) fn observed(&self) -> Observed {
        self.observed.subscribe()
    }

    /// Something that a claim had was removed: what was seen of it is no longer so. To be said before the ledger forgets
    /// whose it was.
    pub(crate) fn undone(&self, work: &Work) {
        let mut meanwhile = self.meanwhile();
        if !meanwhile.undone.contains(work) {
            meanwhile.undone.push(work.clone());
        }
        // Not held while it is told: who tells of a look holds them the other way round.
        drop(meanwhile);
        self.observed.send_if_modified(|current| {
            let next = current.clone().map(|inventory| inventory.without(work));
            let changed = *current != next;
            *current = next;
            changed
        });
    }

    /// Says anew what devices are offered as. To be said while the ledger is held, so that whoever plans with what was seen
    /// and holds the ledger knows it.
    pub(crate) fn lay_out(&self, layouts: Layouts) {
        self.meanwhile().layouts.clone_from(&layouts);
        self.observed.send_if_modified(|current| {
            let next = current.clone().map(|inventory| inventory.laid_out(&layouts));
            let changed = *current != next;
            *current = next;
            changed
        });
    }

    /// What a look sees that begins after this call.
    pub(crate) async fn look_again(&self) -> Inventory {
        let mut told = self.told.subscribe();
        let next = self.meanwhile().begun + 1;
        self.bell.ring();
        // It ends only with the agent, which keeps the other end itself.
        let _ = told.wait_for(|number| *number >= next).await;
        self.observed.borrow().clone().unwrap_or_default()
    }

    /// Says that an accelerator is worked on, until the value is dropped: that it does not answer meanwhile, half in the
    /// hands of one driver and half in another's, says nothing about it.
    pub(crate) fn working_on(&self, accelerator: PciAddress) -> Working<'_> {
        let mut meanwhile = self.meanwhile();
        meanwhile.working.push(accelerator);
        meanwhile.worked_on.insert(accelerator);
        Working { hardware: self, accelerator }
    }

    fn meanwhile(&self) -> MutexGuard<'_, Meanwhile> {
        self.meanwhile.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_look(&self) {
        let mut meanwhile = self.meanwhile();
        meanwhile.undone.clear();
        meanwhile.begun += 1;
        meanwhile.worked_on = meanwhile.working.iter().copied().collect();
    }

    /// Looks until nothing was undone meanwhile, but for the last time.
    fn look<T>(&self, mut look: impl FnMut() -> T) -> T {
        let mut looks = 0;
        loop {
            self.begin_look();
            let seen = look();
            looks += 1;
            if looks == LOOKS || self.meanwhile().undone.is_empty() {
                return seen;
            }
        }
    }

    /// Tells what the last look has seen, but for what the agent itself has done since it began: what is undone from now
    /// on comes after it. Gives back what was told.
    fn tell(&self, mut seen: Inventory) -> Inventory {
        self.observed.send_if_modified(|current| {
            let meanwhile = self.meanwhile();
            if let Some(known) = current {
                seen = std::mem::take(&mut seen).unless_lost(&meanwhile.worked_on, known);
            }
            for work in &meanwhile.undone {
                seen = std::mem::take(&mut seen).without(work);
            }
            seen = std::mem::take(&mut seen).laid_out(&meanwhile.layouts);
            let changed = current.as_ref() != Some(&seen);
            if changed {
                info!(driver = %self.driver, devices = seen.devices().len(), "the hardware changed");
                *current = Some(seen.clone());
            }
            changed
        });
        self.told.send_replace(self.meanwhile().begun);
        seen
    }
}

/// Stops the thread when dropped; a look that hangs is not waited for.
pub(crate) struct Watching {
    bell: Bell,
    /// When the look began that is under way.
    begun: Arc<Mutex<Option<Instant>>>,
}

impl Watching {
    /// Tells of a look that hangs, until stopped: the thread itself cannot. Has it look at once when the kernel tells of
    /// a device.
    pub(crate) async fn watch_over(
        self,
        mut uevents: Uevents,
        metrics: Metrics,
        notices: Notices,
        stop: CancellationToken,
    ) {
        let mut told = false;
        let mut pulse = tokio::time::interval(PULSE);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = uevents.changed() => self.bell.ring(),
                _ = pulse.tick() => {
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
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.bell.end();
    }
}

/// How hardware is looked at.
pub(crate) struct Looks {
    /// The way to it.
    pub(crate) backend: Box<dyn Backend>,
    /// So long after a look comes the next, if the kernel tells of nothing before.
    pub(crate) interval: Duration,
    /// What is offered besides whole accelerators.
    pub(crate) offering: Offering,
    /// Where it is counted.
    pub(crate) metrics: Metrics,
}

/// Looks at the hardware now and again and again, and tells when something changed.
/// `in_use` names the accelerators that claims have: they are never forgotten. It reads what other agents changed.
pub(crate) fn watch(
    hardware: &Hardware,
    looks: Looks,
    in_use: impl Fn() -> BTreeSet<DeviceName> + Send + 'static,
) -> std::io::Result<Watching> {
    let Looks { mut backend, interval, offering, metrics } = looks;
    let watched = hardware.clone();
    let bell = hardware.bell.clone();
    let rung = bell.clone();
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
                report(&watched.driver, &now_wrong, next.devices().len());
                trouble = now_wrong;
            }
            metrics.observed(&next);
            inventory = watched.tell(next);
            let heard = match rung.wait(interval) {
                Heard::Ring => settled(&rung),
                heard => heard,
            };
            if heard == Heard::End {
                return;
            }
        }
    })?;
    Ok(Watching { bell, begun })
}

/// Waits until all that belongs to what was told is there; what rings meanwhile belongs to it.
fn settled(bell: &Bell) -> Heard {
    let until = Instant::now() + SETTLE;
    loop {
        match bell.wait(until.saturating_duration_since(Instant::now())) {
            Heard::Ring => {}
            heard => return heard,
        }
    }
}

/// Said once for each change, not at each look.
fn report(driver: &DriverName, trouble: &str, devices: usize) {
    if trouble.is_empty() {
        info!(%driver, devices, "the hardware answers again");
    } else {
        warn!(%driver, devices, trouble, "hardware trouble; looking again soon");
    }
}

#[cfg(test)]
mod tests {
    use tessera_driver::topology::Links;
    use tessera_driver::vfio::{Passthrough, Ways};
    use tessera_driver::{Accelerator, Discovery, Facts, Locality};

    use super::*;

    /// A GPU that user space has.
    fn passed(address: PciAddress) -> Inventory {
        let ways = Ways { group: Some(7), device: None };
        let passthrough = Passthrough { bound: true, iommufd: false, ways, vendor_id: 0x10de, device_id: 0x2330 };
        let accelerator = Accelerator {
            address,
            locality: Locality::default(),
            partitioning: None,
            passthrough: Some(passthrough),
            links: Links::default(),
            facts: Facts::NvidiaFunction,
        };
        let found = Discovery { accelerators: vec![accelerator], ..Discovery::default() };
        Inventory::new(Offering::NOTHING).after(&found, &BTreeSet::new())
    }

    fn is_bound(inventory: &Inventory) -> bool {
        inventory.devices()[0].accelerator.passthrough.is_some_and(|passthrough| passthrough.bound)
    }

    #[test]
    fn what_is_undone_between_a_look_and_its_telling_is_not_told() {
        let address = "0000:1b:00.0".parse().unwrap();
        let work = Work::Pass { accelerator: address };
        let hardware = Hardware::new(DriverName::nvidia_gpu());
        // What was undone before a look is seen as it is.
        hardware.undone(&work);
        let seen = hardware.look(|| passed(address));
        assert!(is_bound(&hardware.tell(seen)));

        let seen = hardware.look(|| passed(address));
        hardware.undone(&work);
        assert!(!is_bound(&hardware.tell(seen)));
        assert!(hardware.observed().borrow().as_ref().is_some_and(|told| !is_bound(told)));
    }

    #[test]
    fn what_does_not_answer_while_it_is_worked_on_is_not_lost() {
        let address = "0000:1b:00.0".parse().unwrap();
        let hardware = Hardware::new(DriverName::nvidia_gpu());
        let known = hardware.tell(hardware.look(|| passed(address)));
        let lost = || known.unreachable("it has no driver");
        let during = hardware.working_on(address);
        assert_eq!(hardware.tell(hardware.look(lost)), known);
        // A look that began meanwhile, too.
        let seen = hardware.look(|| {
            drop(hardware.working_on(address));
            lost()
        });
        drop(during);
        assert_eq!(hardware.tell(seen), known);
        assert_eq!(hardware.tell(hardware.look(lost)), lost(), "nobody works on it any more");
    }

    #[test]
    fn a_look_that_something_is_undone_under_is_repeated() {
        let address = "0000:1b:00.0".parse().unwrap();
        let hardware = Hardware::new(DriverName::nvidia_gpu());
        let mut looks = 0;
        hardware.look(|| {
            looks += 1;
            if looks < 3 {
                hardware.undone(&Work::Pass { accelerator: address });
            }
        });
        assert_eq!(looks, 3);
        looks = 0;
        hardware.look(|| {
            looks += 1;
            hardware.undone(&Work::Pass { accelerator: address });
        });
        assert_eq!(looks, LOOKS, "not for ever");
    }
}
