//! Hands GPUs to user space by VFIO and takes them back.

use std::thread;
use std::time::{Duration, Instant};

use tessera_vocabulary::PciAddress;

use super::{Session, holding_node};
use crate::vfio::{Class, Original, Rebinder, Rebinding, VfioError, VfioState, Ways};
use crate::{Outcome, Root, WorkError};

/// Who holds a GPU is asked again this often.
const AGAIN: Duration = Duration::from_millis(250);
/// So long everybody waits who needs NVML, at most: the GPU is only touched once nobody else has it.
const AT_ONCE: Duration = Duration::from_secs(5);

pub(super) struct Passing {
    session: Session,
    root: Root,
    rebinder: Rebinder,
}

impl Passing {
    pub(super) fn new(session: Session, root: Root) -> Self {
        // A tree that stands for another machine has no processes; those that hold its devices are this machine's.
        let own = root.seen_by_agent("/proc");
        let processes = if own.join("self").exists() { own } else { "/proc".into() };
        Self { session, rebinder: Rebinder::new(root.clone(), processes), root }
    }

    /// While somebody has the GPU open this is tried again. NVML has every GPU open, and is closed for each try.
    pub(super) fn hand_over(&self, gpu: PciAddress, deadline: Instant) -> Result<Outcome, WorkError> {
        let rebinding = self.until(deadline, || {
            let nodes = holding_node(&self.root, gpu).into_iter().collect();
            self.rebinder.plan(gpu, nodes, soon(deadline))
        });
        let rebinding = rebinding.map_err(|error| WorkError { untouched: true, ..error })?;
        // Not planned anew for another try: of a GPU that is half handed over nobody could say any more whose it was.
        let state = self.until(deadline, || self.rebinder.bind(&rebinding, soon(deadline)))?;
        Ok(Outcome::Passed { ways: ways(&state), rebinding })
    }

    /// Also of what was only half handed over, of which nothing is known.
    pub(super) fn take_back(
        &self,
        gpu: PciAddress,
        rebinding: Option<&Rebinding>,
        deadline: Instant,
    ) -> Result<(), WorkError> {
        self.until(deadline, || match rebinding {
            Some(rebinding) => self.rebinder.take_back(rebinding, soon(deadline)),
            None => {
                let state = match self.rebinder.state(gpu, soon(deadline)) {
                    Err(VfioError::NoDevice { .. }) => return Ok(()),
                    state => state?,
                };
                let companions = state.group.iter().flat_map(|group| group.companions(gpu));
                let mut functions: Vec<_> = companions.map(|member| member.address).collect();
                functions.push(gpu);
                functions
                    .into_iter()
                    .try_for_each(|function| self.rebinder.restore(function, &Original::KernelsChoice, soon(deadline)))
            }
        })
    }

    /// Whether the GPU can still be reached by these ways.
    pub(super) fn holds(&self, gpu: PciAddress, known: Ways) -> bool {
        self.rebinder
            .state(gpu, Instant::now() + AT_ONCE)
            .is_ok_and(|state| ways(&state) == known && known.group.is_some())
    }

    fn until<T>(&self, deadline: Instant, act: impl Fn() -> Result<T, VfioError>) -> Result<T, WorkError> {
        loop {
            match self.session.without(&act) {
                Err(error) if error.class() != Class::Permanent && Instant::now() + AGAIN < deadline => {
                    thread::sleep(AGAIN);
                }
                result => {
                    return result.map_err(|error| WorkError {
                        busy: error.class() == Class::Busy,
                        gone: false,
                        untouched: false,
                        text: error.to_string(),
                    });
                }
            }
        }
    }
}

fn soon(deadline: Instant) -> Instant {
    deadline.min(Instant::now() + AT_ONCE)
}

fn ways(state: &VfioState) -> Ways {
    let group = state.legacy().and(state.group.as_ref()).map(|group| group.number);
    Ways { group, device: state.iommufd().and(state.vfio_device) }
}
