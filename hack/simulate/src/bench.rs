//! The driver's way to change the hardware, call by call, as `driver/src/nvidia/workbench.rs` makes the calls. Between
//! two of them anything may happen.

mod passing;

use tessera_driver::vfio::Rebinding;
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
    Call(Way),
    Done(T),
}

/// How far some work has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Way {
    /// How many calls were made of it.
    pub(crate) call: u8,
    /// How often it was begun again after something was busy.
    pub(crate) again: u8,
    /// What is moved for it, once that is known.
    pub(crate) rebinding: Option<Rebinding>,
}

impl Way {
    fn further(self) -> Self {
        Self { call: self.call.saturating_add(1), ..self }
    }
}

impl Hardware {
    /// One call of the carrying out of work.
    pub(crate) fn carry_out(&mut self, work: &Work, way: Way, plant: Option<Plant>) -> Result<Next<Outcome>, Broken> {
        let call = way.call;
        let next = match work {
            Work::Pass { accelerator } => return self.hand_over(*accelerator, way, plant),
            Work::Join { accelerator, .. } => self.guarded(|hardware| match hardware.reach(*accelerator) {
                Reach::Gone => Err(failed(true)),
                Reach::Silent => Err(failed(false)),
                Reach::Uncut => Ok(Next::Done(Outcome::Done)),
                Reach::Answers(mig) => mig.switch(false).then_some(Next::Done(Outcome::Done)).ok_or_else(busy),
            }),
            Work::Cut { accelerator, shape, placement, .. } => self.guarded(|hardware| {
                let uuid = hardware.uuid();
                match hardware.reach(*accelerator) {
                    Reach::Gone | Reach::Uncut => Err(failed(true)),
                    Reach::Silent => Err(failed(false)),
                    Reach::Answers(mig) => cut(mig, *shape, *placement, way, uuid, plant),
                }
            }),
        };
        next.map_err(|broken| match broken {
            // The mode is no part of what is undone.
            Broken::Failed(error) if call == 0 => Broken::Failed(WorkError { untouched: true, ..error }),
            Broken::Failed(error) if call > 1 => Broken::Failed(WorkError { untouched: false, ..error }),
            broken => broken,
        })
    }

    /// One call of the undoing.
    pub(crate) fn undo(&mut self, work: &Work, outcome: Option<&Outcome>, way: Way) -> Result<Next<()>, Broken> {
        let (accelerator, shape, placement) = match work {
            Work::Join { .. } => return Ok(Next::Done(())),
            Work::Pass { accelerator } => return self.take_back(*accelerator, outcome, way),
            Work::Cut { accelerator, shape, placement, .. } => (accelerator, shape, placement),
        };
        self.guarded(|hardware| {
            let (mut wronged, mut nobodys, mut result) = (None, None, Ok(Next::Done(())));
            match hardware.reach(*accelerator) {
                Reach::Gone | Reach::Uncut => {}
                Reach::Silent => result = Err(failed(false)),
                Reach::Answers(mig) => {
                    if let Some(found) = mig.at_mut(*shape, *placement).filter(|found| is_of(found, outcome)) {
                        wronged = (found.maker == Maker::Admin).then(|| format!("{found:?}"));
                        match &found.compute {
                            _ if found.in_use => result = Err(busy()),
                            Compute::None => {
                                let gone = (*shape, *placement);
                                mig.instances.retain(|one| (one.shape, one.placement) != gone);
                                // The last of them, and the GPU is whole again.
                                mig.switch(false);
                            }
                            _ => {
                                // Its record was lost: another agent may take it for one that an admin made, and destroys.
                                nobodys = (found.maker == Maker::Nobody).then(|| found.clone());
                                found.compute = Compute::None;
                                result = Ok(Next::Call(way.further()));
                            }
                        }
                    }
                }
            }
            nobodys.iter().for_each(|instance| hardware.take(instance));
            hardware.wronged = hardware.wronged.take().or(wronged);
            result
        })
    }

    /// Whether work is still done, with this outcome.
    pub(crate) fn holds(&mut self, work: &Work, outcome: &Outcome) -> Result<bool, Broken> {
        if let (Work::Pass { accelerator }, Outcome::Passed { ways, .. }) = (work, outcome) {
            return self.is_handed_over(*accelerator, *ways);
        }
        self.guarded(|hardware| match (hardware.reach(work.accelerator()), work, outcome) {
            (Reach::Gone, ..) => Err(failed(true)),
            (Reach::Silent, ..) => Err(failed(false)),
            (Reach::Uncut, Work::Join { .. }, _) => Ok(true),
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
    way: Way,
    uuid: String,
    plant: Option<Plant>,
) -> Result<Next<Outcome>, WorkError> {
    let adopted = plant == Some(Plant::Adopted);
    match (way.call, mig.at_mut(shape, placement)) {
        (0, _) => {
            if mig.switch(true) {
                Ok(Next::Call(way.further()))
            } else {
                Err(busy())
            }
        }
        // Nobody of this call's can be there: what a claim had is undone before it is prepared anew.
        (1, Some(_)) if !adopted => Err(WorkError { untouched: true, ..failed(false) }),
        (1, None) => {
            if mig.make(shape, placement, Maker::Agent) {
                Ok(Next::Call(way.further()))
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
