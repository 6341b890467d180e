//! People who cut GPUs by hand or give them to other drivers, and processes that use them.

mod binding;

use tessera_core::ClaimUid;
use tessera_driver::{Placement, Work};

use crate::event::{GpuState, Hand};
use crate::hardware::Gpu;
use crate::mig::{Compute, Maker};
use crate::vfio::Driver;
use crate::world::World;

impl World {
    pub(crate) fn by_hand(&mut self, slot: u8, hand: Hand, which: u8) {
        let done = self.cut_by_hand(slot, hand, which);
        self.tally.by_hand += u64::from(done);
        self.tell_taken();
    }

    fn cut_by_hand(&mut self, slot: u8, hand: Hand, which: u8) -> bool {
        let uuid = self.hardware.uuid();
        let can = |gpu: &&mut Gpu| gpu.state == GpuState::Ready && gpu.functions.driver() == Some(Driver::Own);
        let Some(gpu) = self.hardware.slot(slot).filter(can) else { return false };
        let address = gpu.address();
        let Some(mig) = &mut gpu.mig else { return false };
        match hand {
            Hand::Make | Hand::HalfMake | Hand::CutFurther => {
                let rows = mig.shapes.iter();
                let places: Vec<(u32, Placement)> =
                    rows.flat_map(|row| row.placements.iter().map(|place| (row.id, *place))).collect();
                let (shape, place) = places[usize::from(which) % places.len()];
                // Into a place that a claim was promised: from then on nobody can tell whose it is, or that it is there.
                let promised = |work: &Work| match work {
                    Work::Cut { accelerator, shape: row, placement, .. } => {
                        (*accelerator, *row, *placement) == (address, shape, place)
                    }
                    Work::Pass { accelerator } => *accelerator == address,
                    Work::Join { .. } => false,
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
        }
    }

    pub(crate) fn process(&mut self, slot: u8, which: u8, runs: bool) {
        let Some(gpu) = self.hardware.slot(slot) else { return };
        gpu.functions.held = runs && which.is_multiple_of(2);
        let with_driver = gpu.functions.driver() == Some(Driver::Own);
        let Some(mig) = gpu.mig.as_mut().filter(|_| with_driver) else { return };
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
        self.tell_taken_from_pods();
    }

    /// A person damaged a record: nobody can tell any more whose its instances are.
    pub(crate) fn record_is_lost(&mut self, uid: &ClaimUid) {
        let work = self.disk.0.borrow().kept.get(uid).map(|kept| kept.work.clone()).unwrap_or_default();
        for work in &work {
            match work {
                Work::Cut { accelerator, shape, placement, .. } => {
                    self.hardware.disown(*accelerator, *shape, *placement, Maker::Agent);
                }
                Work::Pass { accelerator } => self.hardware.all_unclear(*accelerator),
                Work::Join { .. } => {}
            }
        }
        self.disk.0.borrow_mut().lost.insert(uid.clone(), work);
    }
}
