//! How GPUs are handed to user space and taken back, write by write: `driver/src/nvidia/passing.rs` over
//! `tessera_driver::vfio`.

use tessera_driver::vfio::{Rebinding, Ways};
use tessera_driver::{Outcome, WorkError};
use tessera_vocabulary::PciAddress;

use super::{Broken, Next, Way, busy, failed};
use crate::hardware::Hardware;
use crate::mig::Maker;
use crate::setting::Plant;
use crate::vfio::{Functions, Stuck};

/// After so many tries the deadline has come.
const TRIES: u8 = 3;

impl Hardware {
    /// The plan, then step by step, then a look at what came of it. What is busy is tried again.
    pub(super) fn hand_over(
        &mut self,
        gpu: PciAddress,
        mut way: Way,
        plant: Option<Plant>,
    ) -> Result<Next<Outcome>, Broken> {
        let (planned, claimed) = (way.clone(), plant == Some(Plant::PassClaimed));
        let done = self.guarded(|hardware| hardware.hand_over_further(gpu, planned, plant));
        let error = match done {
            Err(Broken::Failed(error)) => error,
            done => return done,
        };
        if error.busy && way.again < TRIES {
            // What was done so far is found done.
            let plan = (plant != Some(Plant::PlannedAnew)).then(|| way.rebinding.take()).flatten();
            return Ok(Next::Call(Way { call: u8::from(plan.is_some()), again: way.again + 1, rebinding: plan }));
        }
        let untouched = way.rebinding.is_none_or(|plan| plan.moved.is_empty());
        if !untouched {
            // It is undone without knowing what it was like.
            self.functions(gpu).into_iter().for_each(Functions::forgive);
        }
        Err(Broken::Failed(WorkError { untouched: untouched && !claimed, ..error }))
    }

    fn hand_over_further(
        &mut self,
        gpu: PciAddress,
        way: Way,
        plant: Option<Plant>,
    ) -> Result<Next<Outcome>, WorkError> {
        let number = self.next_vfio();
        let steps = way.rebinding.iter().flat_map(Rebinding::steps).nth(usize::from(way.call).saturating_sub(1));
        let occupied = self.is_cut(gpu) && plant != Some(Plant::CutUnasked);
        let Some(functions) = self.functions(gpu) else { return Err(failed(false)) };
        let Some(rebinding) = &way.rebinding else {
            functions.clear_up();
            let plan = functions.plan().filter(|plan| !occupied || plan.moved.is_empty());
            let rebinding = Some(plan.ok_or_else(|| failed(false))?);
            return Ok(Next::Call(Way { rebinding, ..way }.further()));
        };
        let Some(step) = steps else {
            let outcome = Outcome::Passed { ways: functions.ways(), rebinding: rebinding.clone() };
            return Ok(Next::Done(outcome));
        };
        let before = functions.driver();
        functions.apply(&step, number).map_err(stuck)?;
        if before.is_some() && functions.driver().is_none() {
            self.let_go(gpu);
        }
        Ok(Next::Call(way.further()))
    }

    /// Step by step, of what is known to have been moved or of all that may have been.
    pub(super) fn take_back(
        &mut self,
        gpu: PciAddress,
        outcome: Option<&Outcome>,
        way: Way,
    ) -> Result<Next<()>, Broken> {
        self.guarded(|hardware| {
            // With the GPU all of this is gone.
            let Some(functions) = hardware.functions(gpu) else { return Ok(Next::Done(())) };
            let known = outcome.and_then(|outcome| match outcome {
                Outcome::Passed { rebinding, .. } => Some(rebinding),
                Outcome::Cut(_) | Outcome::Done => None,
            });
            let Some(step) = functions.way_back(known).into_iter().nth(way.call.into()) else {
                functions.clear_up();
                return Ok(Next::Done(()));
            };
            let wronged = functions.take_back(&step).map_err(stuck)?;
            hardware.wronged = hardware.wronged.take().or(wronged);
            Ok(Next::Call(way.further()))
        })
    }

    pub(super) fn is_handed_over(&mut self, gpu: PciAddress, known: Ways) -> Result<bool, Broken> {
        self.guarded(|hardware| Ok(hardware.functions(gpu).is_some_and(|functions| functions.ways() == known)))
    }

    /// The driver has let go of a GPU: what it was cut into is gone.
    fn let_go(&mut self, gpu: PciAddress) {
        let of_admin = self.instances().find(|(address, one)| *address == gpu && one.maker == Maker::Admin);
        let wronged = of_admin.map(|(_, instance)| format!("{gpu} was cut by hand and handed over: {instance:?}"));
        self.wronged = self.wronged.take().or(wronged);
        self.uncut(gpu);
    }
}

fn stuck(stuck: Stuck) -> WorkError {
    match stuck {
        Stuck::Held => busy(),
        // As long as the driver that has it may still let go.
        Stuck::NotTaken => WorkError { busy: true, ..failed(false) },
    }
}
