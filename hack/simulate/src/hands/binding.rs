//! People who give GPUs to VFIO and back by hand.

use tessera_driver::Work;

use crate::event::{GpuState, Rebind};
use crate::hardware::Gpu;
use crate::vfio::{Driver, Function, State};
use crate::world::World;

impl World {
    pub(crate) fn rebind_by_hand(&mut self, slot: u8, rebind: Rebind, which: u8) {
        let done = self.rebound(slot, rebind, which);
        self.tally.by_hand += u64::from(done);
        self.tell_taken();
    }

    /// Nobody takes a GPU from a process that uses it: the kernel would wait. Says whether anything was done.
    fn rebound(&mut self, slot: u8, rebind: Rebind, which: u8) -> bool {
        let number = self.hardware.next_vfio();
        let count = self.hardware.gpus.len().max(1);
        let index = usize::from(slot) % count;
        let idle = |gpu: &Gpu| gpu.state != GpuState::Pulled && !gpu.is_in_use();
        let Some(gpu) = self.hardware.gpus.get_mut(index).filter(|gpu| idle(gpu)) else { return false };
        let (address, before) = (gpu.address(), gpu.functions.driver());
        let promised = |work: &Work| matches!(work, Work::Pass { accelerator } if *accelerator == address);
        let promised = self.disk.0.borrow().work().any(promised);
        let sound = gpu.functions.all.len() > 1;
        let change = |function: &Function| match rebind {
            Rebind::All => State::VFIO,
            Rebind::Back => State::OWN,
            Rebind::Unbind => State { driver: None, ..function.is },
            Rebind::Half if sound && which.is_multiple_of(2) => {
                if function.address.function == 0 {
                    function.is
                } else {
                    State::VFIO
                }
            }
            Rebind::Half if function.address.function == 0 => State { driver: None, pinned: true },
            Rebind::Half => function.is,
        };
        gpu.functions.by_hand(change, number, promised);
        if before == Some(Driver::Own) && gpu.functions.driver() != before {
            self.hardware.lose_all(index);
        }
        true
    }
}
