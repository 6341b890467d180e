//! The PCI functions of one GPU and their drivers, as the kernel keeps them: they outlive agents, and end with a reboot.

use tessera_driver::vfio::{Action, KernelDriver, Moved, Original, Passthrough, Rebinding, Step, Ways};
use tessera_vocabulary::PciAddress;

/// Who has a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    /// The one that the kernel chooses for it: NVIDIA's, or that of sound.
    Own,
    /// User space can have it.
    Vfio,
}

/// What a function is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) driver: Option<Driver>,
    /// Whether no other driver than VFIO's may take it (`driver_override`).
    pub(crate) pinned: bool,
}

impl State {
    /// As the kernel makes it.
    pub(crate) const OWN: Self = Self { driver: Some(Driver::Own), pinned: false };
    /// As an admin binds it.
    pub(crate) const VFIO: Self = Self { driver: Some(Driver::Vfio), pinned: true };
}

/// A function.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) address: PciAddress,
    pub(crate) is: State,
    /// As people left it, or the boot. `None` where nobody can tell whose doing it is that it is as it is.
    pub(crate) left: Option<State>,
    /// As each boot leaves it.
    boot: State,
}

/// All functions of a GPU: the first is the GPU itself.
#[derive(Clone, Debug)]
pub(crate) struct Functions {
    pub(crate) all: Vec<Function>,
    /// Its IOMMU group, which nothing else is in.
    group: Option<u32>,
    /// The number that VFIO has given it.
    device: Option<u32>,
    /// A process has it open, by whichever driver's node.
    pub(crate) held: bool,
}

/// Why a function does not change its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stuck {
    /// A process holds it.
    Held,
    /// Another driver has it, or took it.
    NotTaken,
}

/// One write on the way back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Back {
    Leave(PciAddress),
    Unpin(PciAddress),
    Bring(PciAddress, Original),
}

impl Functions {
    pub(crate) fn new(gpu: PciAddress, sound: bool, bound: bool, group: Option<u32>) -> Self {
        let boot = if bound { State::VFIO } else { State::OWN };
        let function =
            |number| Function { address: PciAddress { function: number, ..gpu }, is: boot, left: Some(boot), boot };
        let device = bound.then_some(u32::from(gpu.bus));
        Self { all: (0..=u8::from(sound)).map(function).collect(), group, device, held: false }
    }

    /// Who has the GPU itself.
    pub(crate) fn driver(&self) -> Option<Driver> {
        self.all[0].is.driver
    }

    pub(crate) fn device(&self) -> Option<u32> {
        self.device
    }

    /// As a boot leaves it.
    pub(crate) fn boot(&mut self) {
        self.begin_anew();
        self.all.iter_mut().for_each(|function| function.left = Some(function.boot));
    }

    /// The GPU was pulled, and is found anew when it is back.
    pub(crate) fn begin_anew(&mut self) {
        self.held = false;
        for function in &mut self.all {
            // What records say of it nobody can hold against them.
            function.left = None;
            function.is = function.boot;
        }
        self.device = (self.driver() == Some(Driver::Vfio)).then(|| u32::from(self.all[0].address.bus));
    }

    /// By what user space reaches it now.
    pub(crate) fn ways(&self) -> Ways {
        match self.driver() {
            Some(Driver::Vfio) => Ways { group: self.group, device: self.device },
            _ => Ways::default(),
        }
    }

    /// What a look tells of it.
    pub(crate) fn facts(&self) -> Option<Passthrough> {
        self.group?;
        Some(Passthrough {
            vendor_id: 0x10de,
            device_id: 0x2330,
            bound: self.driver() == Some(Driver::Vfio),
            ways: self.ways(),
            iommufd: true,
        })
    }

    /// Whether an agent has moved any of it, as far as anybody can tell.
    pub(crate) fn are_moved(&self) -> bool {
        self.all.iter().any(Function::is_moved)
    }

    /// Whether nobody can tell of some of it whose doing it is.
    pub(crate) fn are_unclear(&self) -> bool {
        self.all.iter().any(|function| function.left.is_none())
    }

    /// What people did to it meanwhile is nobody's from now on.
    pub(crate) fn forgive(&mut self) {
        for function in self.all.iter_mut().filter(|function| function.left != Some(State::OWN)) {
            function.left = None;
        }
    }

    /// What nobody could tell is plain again where all is as a boot leaves it.
    pub(crate) fn clear_up(&mut self) {
        for function in self.all.iter_mut().filter(|function| function.left.is_none()) {
            function.left = (function.is == function.boot).then_some(function.boot);
        }
    }

    /// What has to be moved, as `tessera_driver::vfio::Rebinder::plan` says it. `None` where that cannot be.
    pub(crate) fn plan(&self) -> Option<Rebinding> {
        self.group?;
        let driver: KernelDriver = "vfio-pci".parse().ok()?;
        let own: [KernelDriver; 2] = ["nvidia".parse().ok()?, "snd_hda_intel".parse().ok()?];
        let moved = |function: &Function| Moved {
            address: function.address,
            original: match function.is.driver {
                Some(_) => Original::Driver(own[usize::from(function.address.function) % 2].clone()),
                None => Original::Unbound,
            },
            nodes: Vec::new(),
        };
        let others = self.all.iter().filter(|function| function.is.driver != Some(Driver::Vfio));
        Some(Rebinding { device: self.all[0].address, driver, moved: others.map(moved).collect() })
    }

    /// One step of the way there. `number` is the next that VFIO gives.
    pub(crate) fn apply(&mut self, step: &Step, number: u32) -> Result<(), Stuck> {
        let held = self.held;
        let Some(function) = self.all.iter_mut().find(|one| one.address == step.function) else { return Ok(()) };
        match (step.action, function.is.driver) {
            (Action::Override, _) => function.is.pinned = true,
            (Action::Unbind, Some(Driver::Own)) if held => return Err(Stuck::Held),
            (Action::Unbind, Some(Driver::Own)) => function.is.driver = None,
            (Action::Probe, None) if function.is.pinned => {
                function.is.driver = Some(Driver::Vfio);
                if function.address.function == 0 {
                    self.device = Some(number);
                }
            }
            (Action::Probe, None) => {
                function.is.driver = Some(Driver::Own);
                return Err(Stuck::NotTaken);
            }
            (Action::Probe, Some(Driver::Own)) => return Err(Stuck::NotTaken),
            (Action::Unbind | Action::Probe, _) => {}
        }
        Ok(())
    }

    /// The way back: of what is known to have been moved; else of all, as the kernel chooses.
    pub(crate) fn way_back(&self, rebinding: Option<&Rebinding>) -> Vec<Back> {
        let Some(rebinding) = rebinding else {
            let of = |one: &Function| {
                [Back::Leave(one.address), Back::Unpin(one.address), Back::Bring(one.address, Original::KernelsChoice)]
            };
            return self.all.iter().flat_map(of).collect();
        };
        let original = |address| {
            let moved = rebinding.moved.iter().find(|moved| moved.address == address);
            moved.map_or(Original::KernelsChoice, |moved| moved.original.clone())
        };
        let undone = |step: &Step| match step.action {
            Action::Probe => vec![Back::Leave(step.function)],
            Action::Unbind => Vec::new(),
            Action::Override => vec![Back::Unpin(step.function), Back::Bring(step.function, original(step.function))],
        };
        rebinding.steps().iter().rev().flat_map(undone).collect()
    }

    /// One step of the way back. Says what of an admin's it spoilt.
    pub(crate) fn take_back(&mut self, step: &Back) -> Result<Option<String>, Stuck> {
        let held = self.held;
        let (Back::Leave(address) | Back::Unpin(address) | Back::Bring(address, _)) = step;
        let Some(function) = self.all.iter_mut().find(|one| one.address == *address) else { return Ok(None) };
        match (step, function.is.driver) {
            (Back::Leave(_), Some(Driver::Vfio)) if held => return Err(Stuck::Held),
            (Back::Leave(_), Some(Driver::Vfio)) => {
                function.is.driver = None;
                if function.address.function == 0 {
                    self.device = None;
                }
                let by_hand = function.left.is_some_and(|left| left.driver == Some(Driver::Vfio));
                return Ok(by_hand.then(|| format!("{address} was bound by hand and taken from VFIO")));
            }
            (Back::Unpin(_), _) => function.is.pinned = false,
            (Back::Bring(_, Original::Driver(_) | Original::KernelsChoice), None) => {
                function.is.driver = Some(Driver::Own);
            }
            (Back::Leave(_) | Back::Bring(..), _) => {}
        }
        Ok(None)
    }

    /// A person gives functions other drivers, or none. `promised`: a claim was promised the GPU, so that from now on
    /// nobody can tell whose doing it is.
    pub(crate) fn by_hand(&mut self, change: impl Fn(&Function) -> State, number: u32, promised: bool) {
        for function in &mut self.all {
            function.is = change(function);
            function.left = (!promised).then_some(function.is);
        }
        self.device = (self.driver() == Some(Driver::Vfio)).then(|| self.device.unwrap_or(number));
    }
}

impl Function {
    /// Whether it is not as people left it. That an admin's pin is taken off with one's own nobody can help: what was
    /// pinned before is not known.
    fn is_moved(&self) -> bool {
        self.left.is_some_and(|left| self.is.driver != left.driver || self.is.pinned && !left.pinned)
    }
}
