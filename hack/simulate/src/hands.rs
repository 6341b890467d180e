//! People who cut GPUs by hand, and processes that use them.

use tessera_core::ClaimUid;
use tessera_driver::{Placement, Work};

use crate::event::{GpuState, Hand};
use crate::mig::{Compute, Maker};
use crate::world::World;

impl World {
    pub(crate) fn by_hand(&mut self, slot: u8, hand: Hand, which: u8) {
        let uuid = self.hardware.uuid();
        let Some(gpu) = self.hardware.slot(slot).filter(|gpu| gpu.state == GpuState::Ready) else { return };
        let address = gpu.address();
        let Some(mig) = &mut gpu.mig else { return };
        let done = match hand {
            Hand::Make | Hand::HalfMake | Hand::CutFurther => {
                let rows = mig.shapes.iter();
                let places: Vec<(u32, Placement)> =
                    rows.flat_map(|row| row.placements.iter().map(|place| (row.id, *place))).collect();
                let (shape, place) = places[usize::from(which) % places.len()];
                // Into a place that a claim was promised: from then on nobody can tell whose it is.
                let promised = |work: &Work| match work {
                    Work::Cut { accelerator, shape: row, placement, .. } => {
                        (*accelerator, *row, *placement) == (address, shape, place)
                    }
                    Work::Join { .. } | Work::Pass { .. } => false,
                };
                let files = self.disk.0.borrow();
                let promised = files.kept.values().flat_map(|kept| &kept.work).any(promised);
                let maker = if promised { Maker::Nobody } else { Maker::Admin };
                // An admin who cuts a GPU switches it first.
                mig.switch(true);
                let made = mig.make(shape, place, maker);
                if let Some(instance) = mig.at_mut(shape, place).filter(|_| made) {
                    instance.compute = match hand {
                        Hand::Make => Compute::Whole(uuid),
                        Hand::CutFurther => Compute::Further,
                        _ => Compute::None,
                    };
                }
                made
            }
            Hand::Destroy => {
                let index = usize::from(which) % mig.instances.len().max(1);
                let idle = mig.instances.get(index).is_some_and(|instance| !instance.in_use);
                let gone = idle.then(|| mig.instances.remove(index));
                gone.iter().for_each(|instance| self.hardware.take(instance));
                gone.is_some()
            }
            Hand::Switch => {
                let on = mig.on;
                mig.switch(!on)
            }
            Hand::Reset => {
                let idle = !mig.in_use && mig.instances.iter().all(|instance| !instance.in_use);
                if idle {
                    mig.on ^= !mig.switchable;
                    let gone = std::mem::take(&mut mig.instances);
                    gone.iter().for_each(|instance| self.hardware.take(instance));
                }
                idle
            }
        };
        self.tally.by_hand += u64::from(done);
        self.tell_taken();
    }

    pub(crate) fn process(&mut self, slot: u8, which: u8, runs: bool) {
        let Some(mig) = self.hardware.slot(slot).and_then(|gpu| gpu.mig.as_mut()) else { return };
        let index = usize::from(which) % mig.instances.len().max(1);
        match mig.instances.get_mut(index) {
            Some(instance) => instance.in_use = runs,
            None => mig.in_use = runs,
        }
        if !runs {
            mig.in_use = false;
        }
    }

    /// Claims whose hardware a person took from them cannot be held against the agent.
    pub(crate) fn tell_taken(&mut self) {
        for claim in self.claims.iter_mut().filter(|claim| claim.answer.is_some()) {
            claim.tampered |= claim.answer.iter().flatten().any(|device| !self.hardware.has(device));
        }
    }

    /// A person damaged a record: nobody can tell any more whose its instances are.
    pub(crate) fn record_is_lost(&mut self, uid: &ClaimUid) {
        let kept = self.disk.0.borrow().kept.get(uid).cloned();
        for work in kept.iter().flat_map(|kept| &kept.work) {
            if let Work::Cut { accelerator, shape, placement, .. } = work {
                self.hardware.disown(*accelerator, *shape, *placement, Maker::Agent);
            }
        }
    }
}
