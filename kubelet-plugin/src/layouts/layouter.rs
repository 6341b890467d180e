//! Carries out the layouts of one driver's devices, each by itself and side by side: what is to be done next follows from what
//! is wanted, what is kept, who has what and what is there, by a pure function of the core.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tessera_core::{Inventory, LayoutRecord, LayoutStep, Next, Situation, Wanted, next_step, report};
use tessera_policy::{DeviceState, NodeLayout, ReportedDevice};
use tessera_vocabulary::{DeviceName, DriverName};
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::NodeLayouts;
use super::carrying_out::{Hands, Trouble};
use super::events::told;
use super::status::Report;
use crate::files::FileError;
use crate::hardware::Hardware;
use crate::ledger::{SharedLedger, Transaction};
use crate::metrics::Metrics;
use crate::notices::Notices;
use crate::precedence::Precedence;
use crate::publisher::Published;
use crate::works::Works;

/// What cannot be put right is tried again after so many seconds.
const AGAIN: u64 = 30;
/// Claims come and go in numbers: so long is waited for the others.
const SETTLE: Duration = Duration::from_millis(100);
/// What takes its time is looked at this often, even if nothing is heard.
const LOOK: Duration = Duration::from_secs(30);
/// An agent that replaces another waits for it to let go.
const YIELDED: Duration = Duration::from_secs(1);
/// A device is not decided about for ever: each decision but the last says what is kept, and leads to the next.
const DECISIONS: u32 = 8;

/// The file that is locked by the one agent of a node that changes what devices are offered as.
const LOCK: &str = "layouts";

/// Who carries out the layouts of one driver's devices.
pub(crate) struct Layouter {
    parts: Parts,
    hands: Hands,
    /// Held while this agent is the one that changes layouts.
    lock: Option<File>,
    running: JoinSet<Result<(), Trouble>>,
    devices: BTreeMap<DeviceName, Known>,
}

/// What it is made of.
pub(crate) struct Parts {
    pub(crate) driver: DriverName,
    pub(crate) boot_id: String,
    pub(crate) state_dir: std::path::PathBuf,
    pub(crate) layouts: NodeLayouts,
    pub(crate) ledger: Arc<SharedLedger>,
    pub(crate) hardware: Hardware,
    pub(crate) works: Arc<Works>,
    /// Whether it is known what pods have without a claim.
    pub(crate) loans_known: watch::Receiver<bool>,
    /// What was published last of layouts; `None` before that.
    pub(crate) published: watch::Receiver<Option<Published>>,
    /// Told once the devices may be offered: it is known as what.
    pub(crate) known: watch::Sender<bool>,
    /// Whoever was given a device before it was published that nobody new gets it has come to the node after this time: the
    /// scheduler binds the pod, and the kubelet has the claim prepared. Later ones are refused, and told why.
    pub(crate) grace: Duration,
    pub(crate) precedence: Precedence,
    pub(crate) metrics: Metrics,
    pub(crate) notices: Notices,
}

/// What is known of a device besides what is kept.
#[derive(Debug, Default)]
struct Known {
    /// The work on it that is under way.
    running: Option<Id>,
    /// Since when it is published that nobody new gets it.
    closed: Option<Instant>,
    /// Why it could not be put right, and when to try again, in seconds since the boot.
    trouble: Option<(String, u64)>,
    step: Option<LayoutStep>,
    /// What was told last of why it does not have its layout.
    told: String,
}

impl Layouter {
    pub(crate) fn new(parts: Parts) -> Self {
        let hands = Hands {
            ledger: Arc::clone(&parts.ledger),
            hardware: parts.hardware.clone(),
            works: Arc::clone(&parts.works),
            metrics: parts.metrics.clone(),
            notices: parts.notices.clone(),
        };
        let (running, devices) = (JoinSet::new(), BTreeMap::new());
        Self { parts, hands, lock: None, running, devices }
    }

    /// Works until stopped. What is under way then is ended by the next agent.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut observed = self.parts.hardware.observed();
        let (mut changed, mut seen) = (self.parts.ledger.changed(), self.parts.layouts.seen.clone());
        let (mut published, mut loans_known) = (self.parts.published.clone(), self.parts.loans_known.clone());
        loop {
            let pause = self.work();
            tokio::select! {
                () = stop.cancelled() => return,
                changed = observed.changed() => if changed.is_err() { return },
                Ok(()) = changed.changed() => {}
                Ok(()) = seen.changed() => {}
                Ok(()) = published.changed() => {}
                Ok(()) = loans_known.changed() => {}
                Some(ended) = self.running.join_next_with_id() => {
                    match ended {
                        Ok((id, result)) => self.end(id, result.err().map(|trouble| trouble.to_string())),
                        Err(panic) => self.end(panic.id(), Some("it failed within the agent; see its log".to_owned())),
                    }
                    continue;
                }
                () = tokio::time::sleep(pause) => {}
            }
            if stop.run_until_cancelled(tokio::time::sleep(SETTLE)).await.is_none() {
                return;
            }
        }
    }

    fn end(&mut self, id: Id, trouble: Option<String>) {
        let Some((device, known)) = self.devices.iter_mut().find(|(_, known)| known.running == Some(id)) else {
            return;
        };
        known.running = None;
        if let Some(trouble) = &trouble {
            warn!(driver = %self.parts.driver, %device, trouble, "a device is not as its layout says; trying again");
        }
        known.trouble = trouble.map(|trouble| (trouble, uptime() + AGAIN));
    }

    /// Does what is to be done now; says how long to wait if nothing is heard.
    fn work(&mut self) -> Duration {
        if !self.is_ours() {
            // The other one says what there is.
            self.report(Report::Elsewhere);
            if self.parts.layouts.seen.borrow().is_answered {
                self.parts.known.send_replace(true);
            }
            return YIELDED;
        }
        let seen = self.parts.layouts.seen.borrow().clone();
        if !seen.is_answered {
            return LOOK;
        }
        let ledger = Arc::clone(&self.parts.ledger);
        let pass = ledger.exclusively(|ledger| {
            // Borrowed after the ledger, as everywhere; cloned, since what is kept changes it.
            let inventory = self.hands.hardware.observed().borrow().clone()?;
            Some(self.pass(ledger, &inventory, seen.object.as_deref()))
        });
        let (devices, again_at) = match pass {
            Ok(Some(Ok(done))) => done,
            Ok(None) => return LOOK,
            Ok(Some(Err(error))) | Err(error) => {
                warn!(driver = %self.parts.driver, %error, "the layouts of devices cannot be kept; trying again");
                // What is in force is offered all the same.
                self.parts.known.send_replace(true);
                return YIELDED;
            }
        };
        self.parts.known.send_replace(true);
        self.parts.metrics.layouts(devices.iter().map(|device| device.state));
        // A node whose slices were never seen by this agent may be as it was told before.
        if *self.parts.loans_known.borrow() && self.parts.published.borrow().is_some() {
            let generation = seen.object.and_then(|object| object.metadata.generation);
            self.report(Report::Here { generation, devices });
        }
        let opening = self.devices.values().filter_map(|known| known.closed);
        let grace = self.parts.grace;
        let opening = opening.map(|closed| grace.saturating_sub(closed.elapsed())).filter(|left| !left.is_zero());
        let again = again_at.map(|at| Duration::from_secs(at.saturating_sub(uptime())));
        // A second of the clock may not be over when it seems so.
        let earliest = opening.chain(again).min().unwrap_or(LOOK);
        earliest.clamp(Duration::from_millis(50), LOOK)
    }

    /// Whether this agent is the one that changes layouts: there is never another one at the same time.
    fn is_ours(&mut self) -> bool {
        if self.parts.precedence.yields() {
            if self.running.is_empty() {
                self.lock = None;
            }
            return self.lock.is_some();
        }
        if self.lock.is_none() {
            let path = self.parts.state_dir.join(LOCK);
            self.lock = File::create(&path).ok().filter(|file| file.try_lock().is_ok());
        }
        self.lock.is_some()
    }

    /// Decides about each device, while nobody else changes the ledger: who is not known to have a device by then is refused.
    fn pass(
        &mut self,
        ledger: &mut Transaction<'_>,
        inventory: &Inventory,
        object: Option<&NodeLayout>,
    ) -> Result<(Vec<ReportedDevice>, Option<u64>), FileError> {
        let (mut reports, mut again_at) = (Vec::new(), Vec::new());
        let yields = self.parts.precedence.yields();
        let features = self.parts.published.borrow().as_ref().map(|published| published.features).unwrap_or_default();
        let names: BTreeSet<_> = inventory.devices().iter().map(|device| device.accelerator.name()).collect();
        self.devices.retain(|name, known| known.running.is_some() || names.contains(name));
        for name in names {
            let Some(device) = inventory.find(&name) else { continue };
            let is_closed = self.is_closed(&name);
            let mut decisions = 0;
            loop {
                let known = self.devices.entry(name.clone()).or_default();
                let record = ledger.layouts().get(&name).cloned();
                let situation = Situation {
                    driver: self.parts.driver.as_str(),
                    boot_id: &self.parts.boot_id,
                    inventory,
                    device,
                    ledger: ledger.ledger(),
                    record: record.as_ref(),
                    wanted: wanted(object, self.parts.layouts.followed, &self.parts.driver, &name),
                    now: uptime(),
                    is_closed,
                    features,
                    trouble: known.trouble.as_ref().map(|(text, at)| (text.as_str(), *at)),
                };
                if known.running.is_some() || yields {
                    reports.extend(known.step.as_ref().map(|step| report(&situation, step)));
                    break;
                }
                let (step, now) = (next_step(&situation), situation.now);
                let answer =
                    published(report(&situation, &step), &name, record.as_ref(), &self.parts.published.borrow());
                decisions += 1;
                let kept = match &step.next {
                    Next::Rest => None,
                    Next::Keep(kept) | Next::Go(kept) => Some((**kept).clone()),
                };
                told(&step, record.as_ref(), kept.as_ref(), &mut known.told, &self.parts.notices);
                if let Some(kept) = kept.filter(|kept| record.as_ref() != Some(kept)) {
                    ledger.lay_out(kept)?;
                }
                if matches!(step.next, Next::Keep(_)) && decisions < DECISIONS {
                    continue;
                }
                again_at.extend(step.again_at);
                reports.push(answer);
                if let Next::Go(kept) = &step.next {
                    self.parts.metrics.layout_drained(drained(kept, now));
                    let (hands, record) = (self.hands.clone(), (**kept).clone());
                    known.running = Some(self.running.spawn(async move { hands.carry_out(record).await }).id());
                }
                known.step = Some(step);
                break;
            }
        }
        Ok((reports, again_at.into_iter().min()))
    }

    /// Whether it has been published for long enough that nobody new gets a device, and who has it is known.
    fn is_closed(&mut self, name: &DeviceName) -> bool {
        let is_changing =
            |published: &Published| published.layouts.get(name).is_some_and(|layout| layout.change.is_some());
        let is_published = self.parts.published.borrow().as_ref().is_some_and(is_changing);
        let known = self.devices.entry(name.clone()).or_default();
        match (is_published, known.closed) {
            (true, None) => known.closed = Some(Instant::now()),
            (true, Some(_)) => {}
            (false, _) => known.closed = None,
        }
        *self.parts.loans_known.borrow() && known.closed.is_some_and(|closed| closed.elapsed() >= self.parts.grace)
    }

    fn report(&self, report: Report) {
        self.parts.layouts.reports.send_if_modified(|reports| {
            let changed = reports.get(&self.parts.driver) != Some(&report);
            if changed {
                reports.insert(self.parts.driver.clone(), report);
            }
            changed
        });
    }
}

/// A device is ready once everybody can see what it is offered as.
fn published(
    answer: ReportedDevice,
    name: &DeviceName,
    record: Option<&LayoutRecord>,
    published: &Option<Published>,
) -> ReportedDevice {
    let in_force = record.map(LayoutRecord::device_layout).unwrap_or_default();
    let shown = published.as_ref().map(|published| published.layouts.get(name).cloned().unwrap_or_default());
    let is_ready = answer.state == DeviceState::Ready;
    if is_ready && shown.is_some_and(|shown| shown != in_force) {
        return ReportedDevice { state: DeviceState::Changing, message: "it is being published".to_owned(), ..answer };
    }
    answer
}

/// How long a device was waited for that is changed from now on.
fn drained(record: &LayoutRecord, now: u64) -> Option<Duration> {
    let change = record.change.as_ref().filter(|change| change.failed.is_none())?;
    Some(Duration::from_secs(now.saturating_sub(change.since)))
}

/// What is wanted of a device.
fn wanted<'a>(object: Option<&'a NodeLayout>, followed: bool, driver: &DriverName, name: &DeviceName) -> Wanted<'a> {
    let Some(object) = object.filter(|_| followed) else {
        return if followed { Wanted::Unknown } else { Wanted::AsTold };
    };
    let is_this = |id: &tessera_policy::DeviceId| id.driver == driver.as_str() && id.name == name.as_str();
    object.spec.devices.iter().find(|desired| is_this(&desired.id)).map_or(Wanted::AsTold, Wanted::This)
}

/// Seconds since the node's boot: no clock that somebody sets. Where the kernel does not tell, no deadline passes.
fn uptime() -> u64 {
    let text = fs::read_to_string(Path::new("/proc/uptime")).unwrap_or_default();
    let seconds = text.split('.').next().and_then(|seconds| seconds.parse().ok());
    seconds.unwrap_or_default()
}
