//! What is asked and what is done about a device.

use std::path::PathBuf;
use std::time::Instant;

use tessera_vocabulary::PciAddress;

use super::files;
use super::holders::holders;
use super::pending::Pending;
use super::work::Work;
use super::{Action, Binding, Holder, KernelDriver, Moved, Original, Rebinding, Step, VfioError, VfioState};
use crate::Root;

/// Moves PCI functions to VFIO drivers and back. One for the whole agent: it knows which calls the kernel still owes.
#[derive(Debug)]
pub struct Rebinder {
    pub(super) root: Root,
    /// The host's procfs.
    processes: PathBuf,
    pub(super) pending: Pending,
}

impl Rebinder {
    /// For the kernel whose `/sys`, `/dev` and `/lib/modules` are below `root`. `processes` is a procfs that shows the
    /// host's processes: a container's own does only with `hostPID`.
    pub fn new(root: Root, processes: impl Into<PathBuf>) -> Self {
        Self { root, processes: processes.into(), pending: Pending::default() }
    }

    /// What the kernel says about a function.
    ///
    /// # Errors
    /// [`VfioError::NoDevice`], and [`VfioError::TimedOut`] or [`VfioError::Held`] while a driver is busy with it.
    pub fn state(&self, function: PciAddress, deadline: Instant) -> Result<VfioState, VfioError> {
        self.state_of(function, &[], deadline)
    }

    fn state_of(&self, function: PciAddress, nodes: &[String], deadline: Instant) -> Result<VfioState, VfioError> {
        let root = self.root.clone();
        let work = Work { rebinder: self, function, action: Action::Override, nodes, deadline };
        let state = work.call(move || VfioState::read(&root, function))?;
        state.ok_or(VfioError::NoDevice { device: function })
    }

    /// What has to be moved for a device. `nodes` are those that processes hold the device by and that sysfs does not
    /// know, like `/dev/nvidia0`. Changes nothing.
    ///
    /// # Errors
    /// When the device cannot be handed out as it is; the text says what to do.
    pub fn plan(&self, device: PciAddress, nodes: Vec<String>, deadline: Instant) -> Result<Rebinding, VfioError> {
        let state = self.state_of(device, &nodes, deadline)?;
        let Some(group) = state.group.filter(|_| state.iommu) else { return Err(VfioError::NoIommu { device }) };
        if state.virtual_functions > 0 {
            return Err(VfioError::VirtualFunctions { device, number: state.virtual_functions });
        }
        let obstacles = group.obstacles(device);
        if let Some((obstacle, driver)) = obstacles.first().and_then(|one| Some((one.address, one.driver.clone()?))) {
            return Err(VfioError::NotViable {
                device,
                group: group.number,
                obstacle,
                driver,
                others: obstacles.len() - 1,
            });
        }
        let module = state.vfio_driver.as_ref().map_or("vfio_pci", |driver| &driver.module).to_owned();
        let driver = state.vfio_driver.and_then(|driver| driver.driver);
        // What a VFIO driver has stays with it, whoever has chosen it.
        let driver = match state.binding {
            Binding::Bound(driver) if driver.is_vfio() => driver,
            _ => driver.ok_or(VfioError::NoDriver { device, module })?,
        };
        let companions = group.companions(device).into_iter();
        let moved = companions.filter(|one| !one.driver.as_ref().is_some_and(KernelDriver::is_vfio)).map(|one| Moved {
            address: one.address,
            original: one.driver.clone().map_or(Original::Unbound, Original::Driver),
            nodes: files::class_nodes(&self.root, one.address)
                .into_iter()
                .chain(nodes.iter().filter(|_| one.address == device).cloned())
                .collect(),
        });
        Ok(Rebinding { device, driver, moved: moved.collect() })
    }

    /// The processes that hold a device which has not been moved yet.
    pub fn holders(&self, rebinding: &Rebinding) -> Vec<Holder> {
        let nodes: Vec<&String> = rebinding.moved.iter().flat_map(|moved| &moved.nodes).collect();
        self.processes_at(&nodes)
    }

    /// Carries all steps out and says what came of it. A repeated call does what is missing.
    ///
    /// # Errors
    /// Of the first step that fails. What was done is left as it is, for another try or [`Rebinder::take_back`].
    pub fn bind(&self, rebinding: &Rebinding, deadline: Instant) -> Result<VfioState, VfioError> {
        for step in rebinding.steps() {
            self.apply(rebinding, &step, deadline)?;
        }
        self.state(rebinding.device, deadline)
    }

    /// Undoes all steps, carried out or not. That there is nothing to undo is fine, also that the device is gone.
    ///
    /// # Errors
    /// Of the first step that fails: later ones build on it.
    pub fn take_back(&self, rebinding: &Rebinding, deadline: Instant) -> Result<(), VfioError> {
        rebinding.steps().iter().rev().try_for_each(|step| self.undo(rebinding, step, deadline))
    }

    /// Carries a step out; nothing if it has been.
    ///
    /// # Errors
    /// Then [`Rebinder::undo`] removes what there is of it. A step that was given up at its deadline may still take
    /// effect; whoever undoes it waits for that.
    pub fn apply(&self, rebinding: &Rebinding, step: &Step, deadline: Instant) -> Result<(), VfioError> {
        let work = self.work(rebinding, step, deadline);
        work.must_exist()?;
        match step.action {
            Action::Override => work.set_override(Some(&rebinding.driver)),
            Action::Unbind => work.free(|driver| *driver != rebinding.driver),
            Action::Probe => work.give_to(&rebinding.driver),
        }
    }

    /// Undoes a step; nothing if it has not been carried out, or the device is gone.
    ///
    /// # Errors
    /// Then it is worth another try.
    pub fn undo(&self, rebinding: &Rebinding, step: &Step, deadline: Instant) -> Result<(), VfioError> {
        let work = self.work(rebinding, step, deadline);
        if work.must_exist().is_err() {
            return Ok(());
        }
        match step.action {
            Action::Probe => work.leave_vfio(),
            Action::Unbind => Ok(()),
            Action::Override => {
                work.set_override(None)?;
                work.bring_back(
                    rebinding.moved(step.function).map_or(&Original::KernelsChoice, |moved| &moved.original),
                )
            }
        }
    }

    /// Whether the effect of a step is there. What cannot be seen before the deadline is not.
    pub fn holds(&self, rebinding: &Rebinding, step: &Step, deadline: Instant) -> bool {
        let Ok(state) = self.state(step.function, deadline) else { return false };
        match step.action {
            Action::Override => state.driver_override.as_deref() == Some(rebinding.driver.as_str()),
            Action::Unbind => match &state.binding {
                Binding::Unbound => true,
                Binding::Bound(driver) => *driver == rebinding.driver,
                Binding::Releasing(_) => false,
            },
            Action::Probe => {
                state.binding == Binding::Bound(rebinding.driver.clone())
                    && (state.legacy().is_some() || state.iommufd().is_some())
            }
        }
    }

    /// Brings one function back from whatever VFIO driver has it, for those who know no more than its address and what
    /// it had. Each of the functions that were moved needs it. That there is nothing to do is fine.
    ///
    /// # Errors
    /// Then it is worth another try.
    pub fn restore(&self, function: PciAddress, original: &Original, deadline: Instant) -> Result<(), VfioError> {
        let work = |action| Work { rebinder: self, function, action, nodes: &[], deadline };
        if work(Action::Override).must_exist().is_err() {
            return Ok(());
        }
        work(Action::Probe).leave_vfio()?;
        work(Action::Override).set_override(None)?;
        work(Action::Override).bring_back(original)
    }

    fn work<'a>(&'a self, rebinding: &'a Rebinding, step: &Step, deadline: Instant) -> Work<'a> {
        let nodes = rebinding.moved(step.function).map_or(&[][..], |moved| &moved.nodes);
        Work { rebinder: self, function: step.function, action: step.action, nodes, deadline }
    }

    pub(super) fn processes_at(&self, nodes: &[impl AsRef<str>]) -> Vec<Holder> {
        let nodes: Vec<PathBuf> = nodes.iter().map(|node| self.root.seen_by_agent(node.as_ref())).collect();
        holders(&self.processes, &nodes)
    }
}

impl Rebinding {
    fn moved(&self, function: PciAddress) -> Option<&Moved> {
        self.moved.iter().find(|moved| moved.address == function)
    }
}
