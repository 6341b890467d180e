//! The node's GPUs, and what the driver says of them.

use std::collections::BTreeSet;

use tessera_core::{Offering, Part, PreparedDevice, Use};
use tessera_driver::{Accelerator, Discovery, Facts, Outcome, Placement, Shape, Work};
use tessera_vocabulary::{DeviceName, PciAddress};

use crate::accelerator::accelerator;
use crate::event::{GpuState, WorkFault};
use crate::machine::Machine;
use crate::mig::{Compute, Instance, Maker, Mig};
use crate::vfio::{Driver, Functions};

/// How many GPUs a node has when it has many: two slices are needed for what it offers of them.
fn most(offering: Offering) -> u8 {
    match (offering.passthrough, offering.groups) {
        (true, true) => 24,
        (false, false) => 66,
        _ => 36,
    }
}

/// The IOMMU group of the first GPU.
const FIRST_GROUP: u32 = 40;

/// A GPU in its slot.
#[derive(Debug)]
pub(crate) struct Gpu {
    accelerator: Accelerator,
    pub(crate) state: GpuState,
    pub(crate) mig: Option<Mig>,
    pub(crate) functions: Functions,
}

/// The machine, and what befell it.
#[derive(Debug)]
pub(crate) struct Hardware {
    pub(crate) gpus: Vec<Gpu>,
    machine: Machine,
    pub(crate) driver_fails: bool,
    /// What goes wrong with work on a GPU, and after how many calls.
    pub(crate) next_fault: Option<(u8, WorkFault)>,
    /// How many calls about work did not go well, for whatever reason.
    pub(crate) troubles: u64,
    /// The UUIDs of instances that a person or a reset took.
    pub(crate) taken: BTreeSet<String>,
    /// What an agent destroyed that an admin had made, or took from where an admin had bound it.
    pub(crate) wronged: Option<String>,
    computes_made: u32,
}

/// How a GPU answers to who wants to work on it.
pub(crate) enum Reach<'a> {
    Answers(&'a mut Mig),
    /// It cannot be cut.
    Uncut,
    /// Not on the bus, or its driver does not have it.
    Gone,
    Silent,
}

impl Hardware {
    pub(crate) fn new(machine: Machine) -> Self {
        Self {
            gpus: (0..machine.gpus).map(|slot| gpu(slot, machine)).collect(),
            machine,
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
                gpu.functions.begin_anew();
                self.lose_all(index);
            }
        }
    }

    pub(crate) fn set_many(&mut self, many: bool) {
        self.gpus.truncate(self.machine.gpus.into());
        if many {
            let plain = Machine { cut: |_| None, bound: &[], ..self.machine };
            let mut more: Vec<Gpu> =
                (self.machine.gpus..most(self.machine.offering)).map(|slot| gpu(slot, plain)).collect();
            more.iter_mut().for_each(|gpu| gpu.functions.begin_anew());
            self.gpus.extend(more);
        }
    }

    /// The node reboots.
    pub(crate) fn all_well(&mut self) {
        self.driver_fails = false;
        self.next_fault = None;
        for index in 0..self.gpus.len() {
            self.gpus[index].state = GpuState::Ready;
            self.gpus[index].functions.boot();
            self.lose_all(index);
        }
    }

    /// All that a GPU was cut into is gone, and the mode where it does not outlast that.
    pub(crate) fn lose_all(&mut self, index: usize) {
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
        let with_driver = |gpu: &&mut Gpu| gpu.address() == address && gpu.functions.driver() == Some(Driver::Own);
        match self.gpus.iter_mut().find(with_driver) {
            Some(Gpu { state: GpuState::Silent, .. }) => Reach::Silent,
            Some(Gpu { state: GpuState::Ready | GpuState::NoNode, mig, .. }) => {
                mig.as_mut().map_or(Reach::Uncut, Reach::Answers)
            }
            _ => Reach::Gone,
        }
    }

    /// The PCI functions of a GPU that is on the bus.
    pub(crate) fn functions(&mut self, address: PciAddress) -> Option<&mut Functions> {
        let mut present = self.gpus.iter_mut().filter(|gpu| gpu.state != GpuState::Pulled);
        present.find(|gpu| gpu.address() == address).map(|gpu| &mut gpu.functions)
    }

    /// The number that VFIO gives to the next device.
    pub(crate) fn next_vfio(&self) -> u32 {
        let free = |number: &u32| !self.gpus.iter().any(|gpu| gpu.functions.device() == Some(*number));
        (0..).find(free).unwrap_or_default()
    }

    pub(crate) fn is_cut(&self, address: PciAddress) -> bool {
        self.instances().any(|(of, _)| of == address)
    }

    /// All that a GPU was cut into ends with its driver, at an agent's hands: claims may still count on it.
    pub(crate) fn uncut(&mut self, address: PciAddress) {
        for mig in self.gpus.iter_mut().filter(|gpu| gpu.address() == address).filter_map(|gpu| gpu.mig.as_mut()) {
            mig.on &= !mig.switchable;
            mig.in_use = false;
            mig.instances.clear();
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
        let whole = |name: &DeviceName| {
            let found = self.gpus.iter().find(|gpu| gpu.name() == *name);
            found.is_some_and(|gpu| gpu.is_whole())
        };
        let known = device.outcomes.first();
        let passed = self.gpus.iter().find(|gpu| gpu.passthrough_name() == device.device);
        match (device.uses.as_slice(), passed) {
            ([], _) => whole(&device.device),
            (_, Some(gpu)) => {
                let functions = &gpu.functions;
                let of_vfio = functions.all.iter().all(|function| function.is.driver == Some(Driver::Vfio));
                let same = match known {
                    Some(Outcome::Passed { ways, .. }) => functions.ways() == *ways,
                    _ => true,
                };
                gpu.state != GpuState::Pulled && of_vfio && same
            }
            (uses, None) => uses.iter().all(|used| {
                let Some(placement) = used.placement else { return whole(&used.accelerator) };
                let gpus = self.gpus.iter().filter(|gpu| gpu.name() == used.accelerator);
                let mut instances = gpus.flat_map(|gpu| gpu.mig.iter()).flat_map(|mig| &mig.instances);
                let as_known = |one: &Instance| match known {
                    Some(Outcome::Cut(known)) => one.made().as_ref() == Some(known),
                    _ => true,
                };
                instances.any(|one| one.placement == placement && as_known(one))
            }),
        }
    }

    /// Whether a unit that a pod was given by count is still there and as it was.
    pub(crate) fn has_unit(&self, id: &str, uses: &[Use]) -> bool {
        uses.iter().all(|used| match used.placement {
            Some(_) => self.instances().any(|(_, one)| one.made().is_some_and(|made| made.uuid == id)),
            None => self.gpus.iter().any(|gpu| gpu.name() == used.accelerator && gpu.is_whole()),
        })
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

    /// Nobody can tell any more what an admin did where some work was begun.
    pub(crate) fn forgive(&mut self, work: &Work) {
        match work {
            Work::Cut { accelerator, shape, placement, .. } => {
                self.disown(*accelerator, *shape, *placement, Maker::Admin);
            }
            Work::Pass { accelerator } => self.functions(*accelerator).into_iter().for_each(Functions::forgive),
            Work::Join { .. } => {}
        }
    }

    /// Nobody can tell any more whose doing it is which drivers a GPU's functions have.
    pub(crate) fn all_unclear(&mut self, address: PciAddress) {
        if let Some(functions) = self.functions(address) {
            functions.all.iter_mut().for_each(|function| function.left = None);
        }
    }

    /// One look.
    pub(crate) fn discover(&self) -> Result<Discovery, &'static str> {
        if self.driver_fails {
            return Err("the driver failed");
        }
        let present = self.gpus.iter().filter(|gpu| gpu.state != GpuState::Pulled);
        Ok(Discovery {
            accelerators: present.clone().filter_map(Gpu::seen).collect(),
            on_the_bus: present.map(Gpu::address).collect(),
            problems: Vec::new(),
        })
    }

    /// What a container needs for a GPU, or a partition of it.
    pub(crate) fn container_edits(&self, part: Part<'_>) -> Result<cdi::ContainerEdits, String> {
        let address = part.accelerator().address;
        let missing = self.gpus.iter().any(|gpu| gpu.accelerator.address == address && gpu.state == GpuState::NoNode);
        if missing && !matches!(part, Part::Passthrough(..)) {
            return Err("its device node is missing".to_owned());
        }
        let path = match part {
            Part::Whole(_) | Part::Member(_) => format!("/dev/nvidia{}", address.bus),
            Part::Partition(_, _, made) => format!("/dev/nvidia-caps/{}", made.uuid),
            Part::Passthrough(_, ways, _) => ways.legacy().ok_or_else(|| "VFIO offers no way to it".to_owned())?.node(),
        };
        Ok(cdi::ContainerEdits { device_nodes: vec![cdi::DeviceNode::new(path)], ..Default::default() })
    }
}

/// The name of a device that the agent published.
pub(crate) fn device_name(text: &str) -> Option<DeviceName> {
    text.parse().ok()
}

fn gpu(slot: u8, machine: Machine) -> Gpu {
    let accelerator = accelerator(slot, None, machine.tie);
    let group = machine.iommu.then(|| FIRST_GROUP + u32::from(slot));
    let functions = Functions::new(accelerator.address, machine.sound, machine.bound.contains(&slot), group);
    Gpu { accelerator, state: GpuState::Ready, mig: (machine.cut)(slot), functions }
}

impl Gpu {
    pub(crate) fn address(&self) -> PciAddress {
        self.accelerator.address
    }

    /// The name under which it is published as a whole.
    pub(crate) fn name(&self) -> DeviceName {
        self.accelerator.name()
    }

    /// The name under which it is published to be handed to user space.
    pub(crate) fn passthrough_name(&self) -> DeviceName {
        self.accelerator.passthrough_name()
    }

    /// The name under which a partition of it is published.
    pub(crate) fn partition_name(&self, shape: &Shape, placement: Placement) -> DeviceName {
        self.accelerator.partition_name(shape, placement)
    }

    /// Whether a container can use all of it.
    fn is_whole(&self) -> bool {
        self.functions.driver() == Some(Driver::Own) && self.mig.as_ref().is_none_or(|mig| !mig.on)
    }

    /// Whether a process uses it, or a part of it.
    pub(crate) fn is_in_use(&self) -> bool {
        let cut = self.mig.iter().any(|mig| mig.in_use || mig.instances.iter().any(|one| one.in_use));
        cut || self.functions.held
    }

    /// What a look tells of it: of what VFIO has only what the bus tells, and of what no driver has nothing.
    fn seen(&self) -> Option<Accelerator> {
        let seen = Accelerator { passthrough: self.functions.facts(), ..self.accelerator.clone() };
        match self.functions.driver() {
            Some(Driver::Own) if self.state == GpuState::Silent => None,
            Some(Driver::Own) => Some(Accelerator { partitioning: self.mig.as_ref().map(Mig::partitioning), ..seen }),
            Some(Driver::Vfio) => Some(Accelerator { links: Default::default(), facts: Facts::NvidiaFunction, ..seen }),
            None => None,
        }
    }
}
