//! What this process knows: whether it is initialised, the latest state of the machine, and how often it has called.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use simulated_hardware::state_file::{Stamp, StateFile};
use simulated_hardware::{Call, CallRecord, Hardware, NvmlError, PciAddress, is_known_to};

use crate::abi::Result;
use crate::binding::has_driver;
use crate::locate;
use crate::view::View;

static SESSION: Mutex<Option<Session>> = Mutex::new(None);

/// Between the first initialisation and the last shutdown.
struct Session {
    /// Initialisations that have not been shut down.
    references: u32,
    state: StateFile,
    stamp: Stamp,
    hardware: Arc<Hardware>,
    /// Positions of the GPUs that enumeration gives out: those that were present, and the driver's, when it last looked.
    visible: Arc<[usize]>,
    /// Calls that each fault has matched, by the fault's number.
    matched: HashMap<u64, u64>,
}

/// What the faults make of a call.
#[derive(Default)]
pub(crate) struct Verdict {
    latency: Duration,
    /// The numbers of the faults that the latency is made of.
    slow: Vec<u64>,
    error: Option<NvmlError>,
}

/// So often a call that takes long looks whether it still has to.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

impl Verdict {
    /// Takes as long as the faults want, or until they are taken back, and answers as they want. To be called without any
    /// lock.
    pub(crate) fn carry_out(self) -> Result {
        let end = Instant::now() + self.latency;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || !any_is_there(&self.slow) {
                return self.error.map_or(Ok(()), Err);
            }
            std::thread::sleep(left.min(LOOK_AGAIN));
        }
    }
}

/// Whether the machine has any of these faults still. One that was taken away has none.
fn any_is_there(faults: &[u64]) -> bool {
    let there = with_any(|current| {
        current.refresh()?;
        Ok(current.hardware.faults.iter().any(|fault| faults.contains(&fault.id)))
    });
    there.unwrap_or(false)
}

fn session() -> MutexGuard<'static, Option<Session>> {
    SESSION.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes one more reference. The faults of `function` come first. The session stays after a failure, so that their
/// counts go on: "fails twice, then works" can be had.
pub(crate) fn enter(function: &str, needs_gpus: bool) -> Result {
    let verdict = with_any(|current| {
        current.refresh()?;
        Ok(current.judge(function, None))
    })?;
    verdict.carry_out()?;
    with_any(|current| {
        current.refresh()?;
        current.look_again();
        // The code that nvidia-smi exits with when it says "No devices were found".
        if needs_gpus && current.visible.is_empty() {
            return Err(NvmlError::NOT_FOUND);
        }
        current.references += 1;
        Ok(())
    })
}

/// Gives one reference back.
pub(crate) fn leave() -> Result {
    match session().as_mut() {
        Some(current) if current.references > 0 => {
            current.references -= 1;
            Ok(())
        }
        _ => Err(NvmlError::UNINITIALIZED),
    }
}

/// The machine as it is now.
pub(crate) fn view() -> Result<View> {
    with_open(|current| {
        current.refresh()?;
        Ok(current.view())
    })
}

/// The machine as it is now, with enumeration brought up to date.
pub(crate) fn enumerate() -> Result<View> {
    with_open(|current| {
        current.refresh()?;
        current.look_again();
        Ok(current.view())
    })
}

/// Counts a call and says what the faults make of it. A function that the driver lacks is not found.
pub(crate) fn judge(function: &str, gpu: Option<PciAddress>) -> Result<Verdict> {
    with_open(|current| {
        if !is_known_to(function, &current.hardware.driver) {
            return Err(NvmlError::FUNCTION_NOT_FOUND);
        }
        Ok(current.judge(function, gpu))
    })
}

/// The session, opened if there is none, be it initialised or not.
fn with_any<R>(work: impl FnOnce(&mut Session) -> Result<R>) -> Result<R> {
    let mut guard = session();
    match guard.as_mut() {
        Some(current) => work(current),
        None => work(guard.insert(Session::open()?)),
    }
}

fn with_open<R>(work: impl FnOnce(&mut Session) -> Result<R>) -> Result<R> {
    match session().as_mut() {
        Some(current) if current.references > 0 => work(current),
        _ => Err(NvmlError::UNINITIALIZED),
    }
}

impl Session {
    fn open() -> Result<Self> {
        let state = locate::state_file().ok_or(NvmlError::DRIVER_NOT_LOADED)?;
        let (stamp, hardware) = state.read().map_err(|_| NvmlError::DRIVER_NOT_LOADED)?;
        let hardware = Arc::new(hardware);
        Ok(Self { references: 0, state, stamp, hardware, visible: Arc::new([]), matched: HashMap::new() })
    }

    /// Reads the state if it is another one than the one at hand.
    fn refresh(&mut self) -> Result {
        // The machine has been taken away: as when the driver is unloaded under a client.
        let stamp = self.state.stamp().map_err(|_| NvmlError::DRIVER_NOT_LOADED)?;
        if stamp != self.stamp {
            let (stamp, hardware) = self.state.read().map_err(|_| NvmlError::UNKNOWN)?;
            (self.stamp, self.hardware) = (stamp, Arc::new(hardware));
        }
        Ok(())
    }

    fn look_again(&mut self) {
        let present =
            self.hardware.gpus.iter().enumerate().filter(|(_, gpu)| gpu.present && has_driver(&self.state, gpu));
        self.visible = present.map(|(position, _)| position).collect();
    }

    fn view(&self) -> View {
        View {
            hardware: self.hardware.clone(),
            visible: self.visible.clone(),
            state: self.state.clone(),
            call: RefCell::default(),
        }
    }

    fn judge(&mut self, function: &str, gpu: Option<PciAddress>) -> Verdict {
        let mut verdict = Verdict::default();
        if self.hardware.records_calls {
            let call = Call { function: function.to_owned(), gpu, changed: false };
            // A record with a gap would prove nothing.
            verdict.error = CallRecord::of(&self.state).add(&call).err().map(|_| NvmlError::UNKNOWN);
        }
        for fault in self.hardware.faults.iter().filter(|fault| fault.matches(function, gpu)) {
            let count = self.matched.entry(fault.id).or_default();
            *count += 1;
            if fault.acts_on(*count) {
                if fault.latency_ms > 0 {
                    verdict.latency += Duration::from_millis(fault.latency_ms);
                    verdict.slow.push(fault.id);
                }
                verdict.error = verdict.error.or(fault.error);
            }
        }
        verdict
    }
}
