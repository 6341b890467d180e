//! The driver's way to change the hardware, call by call, as `driver/src/nvidia/workbench.rs` makes the calls. Between
//! two of them anything may happen.

use tessera_driver::{Outcome, Placement, Work, WorkError};

use crate::event::WorkFault;
use crate::hardware::{Hardware, Reach};
use crate::mig::{Compute, Maker, Mig};
use crate::setting::Plant;

/// How a call ended, when not well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    #[error(transparent)]
    Failed(WorkError),
    #[error("the agent died")]
    Died,
}

/// What comes after a call.
pub(crate) enum Next<T> {
    Call(u8),
    Done(T),
}

impl Hardware {
    /// One call of the carrying out of work, of which `call` were made.
    pub(crate) fn carry_out(&mut self, work: &Work, call: u8, plant: Option<Plant>) -> Result<Next<Outcome>, Broken> {
        let next = self.guarded(|hardware| match work {
            Work::Join { accelerator, .. } => match hardware.reach(*accelerator) {
                Reach::Gone => Err(failed(true)),
                Reach::Silent => Err(failed(false)),
                Reach::Answers(mig) => mig.switch(false).then_some(Next::Done(Outcome::Done)).ok_or_else(busy),
            },
            Work::Pass { .. } => Err(failed(false)),
            Work::Cut { accelerator, shape, placement, .. } => {
                let uuid = hardware.uuid();
                match hardware.reach(*accelerator) {
                    Reach::Gone => Err(failed(true)),
                    Reach::Silent => Err(failed(false)),
                    Reach::Answers(mig) => cut(mig, *shape, *placement, call, uuid, plant),
                }
            }
        });
        next.map_err(|broken| match broken {
            // The mode is no part of what is undone.
            Broken::Failed(error) if call == 0 => Broken::Failed(WorkError { untouched: true, ..error }),
            Broken::Failed(error) if call > 1 => Broken::Failed(WorkError { untouched: false, ..error }),
            broken => broken,
        })
    }

    /// One call of the undoing.
    pub(crate) fn undo(&mut self, work: &Work, outcome: Option<&Outcome>, call: u8) -> Result<Next<()>, Broken> {
        let Work::Cut { accelerator, shape, placement, .. } = work else { return Ok(Next::Done(())) };
        self.guarded(|hardware| {
            let (mut wronged, mut result) = (None, Ok(Next::Done(())));
            match hardware.reach(*accelerator) {
                Reach::Gone => {}
                Reach::Silent => result = Err(failed(false)),
                Reach::Answers(mig) => {
                    if let Some(found) = mig.at_mut(*shape, *placement).filter(|found| is_of(found, outcome)) {
                        wronged = (found.maker == Maker::Admin).then(|| format!("{found:?}"));
                        match (&found.compute, call) {
                            _ if found.in_use => result = Err(busy()),
                            (Compute::None, _) => {
                                let gone = (*shape, *placement);
                                mig.instances.retain(|one| (one.shape, one.placement) != gone);
                                // The last of them, and the GPU is whole again.
                                mig.switch(false);
                            }
                            _ => {
                                found.compute = Compute::None;
                                result = Ok(Next::Call(call.saturating_add(1)));
                            }
                        }
                    }
                }
            }
            hardware.wronged = hardware.wronged.take().or(wronged);
            result
        })
    }

    /// Whether work is still done, with this outcome.
    pub(crate) fn holds(&mut self, work: &Work, outcome: &Outcome) -> Result<bool, Broken> {
        self.guarded(|hardware| match (hardware.reach(work.accelerator()), work, outcome) {
            (Reach::Gone, ..) => Err(failed(true)),
            (Reach::Silent, ..) => Err(failed(false)),
            (Reach::Answers(mig), Work::Join { .. }, _) => Ok(!mig.on),
            (Reach::Answers(mig), Work::Cut { shape, placement, .. }, Outcome::Cut(known)) => {
                Ok(mig.at(*shape, *placement).and_then(|found| found.made()).as_ref() == Some(known))
            }
            _ => Ok(false),
        })
    }

    /// One call with what goes wrong with it.
    fn guarded<T>(&mut self, call: impl FnOnce(&mut Self) -> Result<T, WorkError>) -> Result<T, Broken> {
        let fault = match &mut self.next_fault {
            Some((0, _)) => self.next_fault.take().map(|(_, fault)| fault),
            Some((calls, _)) => {
                *calls -= 1;
                None
            }
            None => None,
        };
        let result = match fault {
            Some(WorkFault::Fails) => Err(Broken::Failed(WorkError { untouched: true, ..failed(false) })),
            Some(WorkFault::Busy) => Err(Broken::Failed(WorkError { untouched: true, ..busy() })),
            Some(WorkFault::DiesBefore) => Err(Broken::Died),
            Some(WorkFault::DoneAndFails) => call(self).map_err(Broken::Failed).and(Err(Broken::Failed(failed(false)))),
            Some(WorkFault::DiesAfter) => call(self).map_err(Broken::Failed).and(Err(Broken::Died)),
            None => call(self).map_err(Broken::Failed),
        };
        self.troubles += u64::from(result.is_err());
        result
    }
}

fn cut(
    mig: &mut Mig,
    shape: u32,
    placement: Placement,
    call: u8,
    uuid: String,
    plant: Option<Plant>,
) -> Result<Next<Outcome>, WorkError> {
    let adopted = plant == Some(Plant::Adopted);
    match (call, mig.at_mut(shape, placement)) {
        (0, _) => {
            if mig.switch(true) {
                Ok(Next::Call(1))
            } else {
                Err(busy())
            }
        }
        // Nobody of this call's can be there: what a claim had is undone before it is prepared anew.
        (1, Some(_)) if !adopted => Err(WorkError { untouched: true, ..failed(false) }),
        (1, None) => {
            if mig.make(shape, placement, Maker::Agent) {
                Ok(Next::Call(2))
            } else {
                Err(failed(false))
            }
        }
        (_, Some(found)) => {
            if found.compute == Compute::None {
                found.compute = Compute::Whole(uuid);
            }
            found.made().map(|made| Next::Done(Outcome::Cut(made))).ok_or_else(|| failed(false))
        }
        (_, None) => Err(failed(false)),
    }
}

/// Whether an instance is the one that came of the work, as far as that is known: an admin may have put another one in
/// its place.
fn is_of(found: &crate::mig::Instance, outcome: Option<&Outcome>) -> bool {
    match (outcome, &found.compute) {
        (Some(Outcome::Cut(made)), Compute::Whole(uuid)) => made.uuid == *uuid,
        (Some(Outcome::Cut(_)), Compute::Further) => false,
        _ => true,
    }
}

fn busy() -> WorkError {
    WorkError { busy: true, ..failed(false) }
}

fn failed(gone: bool) -> WorkError {
    WorkError { text: "the driver refused".to_owned(), busy: false, gone, untouched: false }
}
