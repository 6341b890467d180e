//! The node's GPUs, and what the driver says of them.

use std::collections::BTreeSet;

use tessera_core::{Part, PreparedDevice};
use tessera_driver::{Accelerator, Discovery, Outcome, Placement, Shape};
use tessera_vocabulary::{DeviceName, PciAddress};

use crate::accelerator::accelerator;
use crate::event::{GpuState, WorkFault};
use crate::mig::{Compute, Instance, Maker, Mig};

/// How many GPUs a node has when it has many: two slices are needed for them.
const MANY: u8 = 66;

/// A GPU in its slot.
#[derive(Debug)]
pub(crate) struct Gpu {
    accelerator: Accelerator,
    pub(crate) state: GpuState,
    pub(crate) mig: Option<Mig>,
}

/// The machine, and what befell it.
#[derive(Debug)]
pub(crate) struct Hardware {
    pub(crate) gpus: Vec<Gpu>,
    usual: usize,
    pub(crate) driver_fails: bool,
    /// What goes wrong with work on a GPU, and after how many calls.
    pub(crate) next_fault: Option<(u8, WorkFault)>,
    /// How many calls about work did not go well, for whatever reason.
    pub(crate) troubles: u64,
    /// The UUIDs of instances that a person or a reset took.
    pub(crate) taken: BTreeSet<String>,
    /// What an agent destroyed that an admin had made.
    pub(crate) wronged: Option<String>,
    computes_made: u32,
}

/// How a GPU answers to who wants to work on it.
pub(crate) enum Reach<'a> {
    Answers(&'a mut Mig),
    /// Not on the bus, or it cannot be cut.
    Gone,
    Silent,
}

impl Hardware {
    pub(crate) fn new(gpus: u8, cut: fn(u8) -> Option<Mig>) -> Self {
        Self {
            gpus: (0..gpus).map(|slot| gpu(slot, cut(slot))).collect(),
            usual: gpus.into(),
            driver_fails: false,
            next_fault: None,
            troubles: 0,
            taken: BTreeSet::new(),
            wronged: None,
            computes_made: 0,
        }
    }

    /// The GPU that a number stands for.
    pub(crate) fn slot(&mut self, slot: u8) -> Option<&mut Gpu> {
        let count = self.gpus.len().max(1);
        self.gpus.get_mut(usize::from(slot) % count)
    }

    pub(crate) fn set(&mut self, slot: u8, state: GpuState) {
        let count = self.gpus.len().max(1);
        let index = usize::from(slot) % count;
        if let Some(gpu) = self.gpus.get_mut(index) {
            gpu.state = state;
            if state == GpuState::Pulled {
                self.lose_all(index);
            }
        }
    }

    pub(crate) fn set_many(&mut self, many: bool) {
        self.gpus.truncate(self.usual);
        if many {
            let usual = u8::try_from(self.usual).unwrap_or(MANY);
            self.gpus.extend((usual..MANY).map(|slot| gpu(slot, None)));
        }
    }

    /// The node reboots.
    pub(crate) fn all_well(&mut self) {
        self.driver_fails = false;
        self.next_fault = None;
        for index in 0..self.gpus.len() {
            self.gpus[index].state = GpuState::Ready;
            self.lose_all(index);
        }
    }

    /// All that a GPU was cut into is gone, and the mode where it does not outlast that.
    fn lose_all(&mut self, index: usize) {
        let Some(mig) = &mut self.gpus[index].mig else { return };
        mig.on &= !mig.switchable;
        mig.in_use = false;
        let gone = std::mem::take(&mut mig.instances);
        gone.iter().for_each(|one| self.take(one));
    }

    /// Nobody may count on an instance any more.
    pub(crate) fn take(&mut self, instance: &Instance) {
        if let Compute::Whole(uuid) = &instance.compute {
            self.taken.insert(uuid.clone());
        }
    }

    /// A UUID that was never given before.
    pub(crate) fn uuid(&mut self) -> String {
        self.computes_made += 1;
        format!("MIG-{:08}", self.computes_made)
    }

    /// The GPU of an address, for work on it.
    pub(crate) fn reach(&mut self, address: PciAddress) -> Reach<'_> {
        if self.driver_fails {
            return Reach::Silent;
        }
        match self.gpus.iter_mut().find(|gpu| gpu.accelerator.address == address) {
            Some(Gpu { state: GpuState::Silent, .. }) => Reach::Silent,
            Some(Gpu { state: GpuState::Ready | GpuState::NoNode, mig: Some(mig), .. }) => Reach::Answers(mig),
            _ => Reach::Gone,
        }
    }

    /// All instances, with the addresses of their GPUs.
    pub(crate) fn instances(&self) -> impl Iterator<Item = (PciAddress, &Instance)> {
        self.gpus.iter().flat_map(|gpu| {
            let instances = gpu.mig.iter().flat_map(|mig| &mig.instances);
            instances.map(|one| (gpu.accelerator.address, one))
        })
    }

    /// Whether a device that a claim was given is still there and as it was.
    pub(crate) fn has(&self, device: &PreparedDevice) -> bool {
        let known = device.outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Cut(made) => Some(made),
            Outcome::Done | Outcome::Passed { .. } => None,
        });
        match device.uses.as_slice() {
            [] => self.gpus.iter().any(|gpu| gpu.name() == device.device && gpu.mig.as_ref().is_none_or(|mig| !mig.on)),
            uses => uses.iter().all(|used| {
                let gpus = self.gpus.iter().filter(|gpu| gpu.name() == used.accelerator);
                let mut instances = gpus.flat_map(|gpu| gpu.mig.iter()).flat_map(|mig| &mig.instances);
                instances.any(|one| {
                    Some(one.placement) == used.placement
                        && known.is_none_or(|known| one.made().as_ref() == Some(known))
                })
            }),
        }
    }

    /// Nobody can tell any more whose an instance is that was made by this one.
    pub(crate) fn disown(&mut self, address: PciAddress, shape: u32, placement: Placement, maker: Maker) {
        let gpus = self.gpus.iter_mut().filter(|gpu| gpu.accelerator.address == address);
        for one in gpus.filter_map(|gpu| gpu.mig.as_mut()?.at_mut(shape, placement)) {
            if one.maker == maker {
                one.maker = Maker::Nobody;
            }
        }
    }

    /// One look.
    pub(crate) fn discover(&self) -> Result<Discovery, &'static str> {
        if self.driver_fails {
            return Err("the driver failed");
        }
        let present = self.gpus.iter().filter(|gpu| gpu.state != GpuState::Pulled);
        let seen = |gpu: &Gpu| Accelerator {
            partitioning: gpu.mig.as_ref().map(Mig::partitioning),
            ..gpu.accelerator.clone()
        };
        Ok(Discovery {
            accelerators: present.clone().filter(|gpu| gpu.state != GpuState::Silent).map(seen).collect(),
            on_the_bus: present.map(|gpu| gpu.accelerator.address).collect(),
            problems: Vec::new(),
        })
    }

    /// What a container needs for a GPU, or a partition of it.
    pub(crate) fn container_edits(&self, part: Part<'_>) -> Result<cdi::ContainerEdits, String> {
        let address = part.accelerator().address;
        let missing = self.gpus.iter().any(|gpu| gpu.accelerator.address == address && gpu.state == GpuState::NoNode);
        if missing {
            return Err("its device node is missing".to_owned());
        }
        let path = match part {
            Part::Whole(_) => format!("/dev/nvidia{}", address.bus),
            Part::Partition(_, made) => format!("/dev/nvidia-caps/{}", made.uuid),
            Part::Passthrough(..) => return Err("nothing is handed to user space here".to_owned()),
        };
        Ok(cdi::ContainerEdits { device_nodes: vec![cdi::DeviceNode::new(path)], ..Default::default() })
    }
}

/// The name of a device that the agent published.
pub(crate) fn device_name(text: &str) -> Option<DeviceName> {
    text.parse().ok()
}

fn gpu(slot: u8, mig: Option<Mig>) -> Gpu {
    Gpu { accelerator: accelerator(slot, None), state: GpuState::Ready, mig }
}

impl Gpu {
    pub(crate) fn address(&self) -> PciAddress {
        self.accelerator.address
    }

    /// The name under which it is published as a whole.
    pub(crate) fn name(&self) -> DeviceName {
        self.accelerator.name()
    }

    /// The name under which a partition of it is published.
    pub(crate) fn partition_name(&self, shape: &Shape, placement: Placement) -> DeviceName {
        self.accelerator.partition_name(shape, placement)
    }
}
