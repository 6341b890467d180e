//! Cuts GPUs and joins them again, by MIG, and hands them to user space.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use tessera_nvml::{CallError, ErrorClass, GpuInstance, MigGpu, MigProfileId, ModeChange};
use tessera_vocabulary::PciAddress;

use super::Session;
use super::cutting::{made, placement};
use super::passing::Passing;
use crate::{DiscoveryError, Made, Outcome, Placement, Root, Work, WorkError, Workbench};

/// What is in use is tried again this often: processes of a container that was just stopped take a moment to end.
const AGAIN: Duration = Duration::from_millis(100);

/// Changes NVIDIA's GPUs.
pub struct NvidiaWorkbench {
    session: Session,
    passing: Passing,
}

/// A failure on the way to a [`WorkError`].
enum Trouble {
    Call(CallError),
    Driver(DiscoveryError),
    Text(String),
}

impl NvidiaWorkbench {
    /// Works with this session, and with the kernel's files below `root`.
    pub fn new(root: Root, session: Session) -> Self {
        Self { passing: Passing::new(session.clone(), root), session }
    }

    fn with_gpu<T>(
        &self,
        uuid: &str,
        work: &Work,
        act: impl FnOnce(&MigGpu<'_>) -> Result<T, Trouble>,
    ) -> Result<T, WorkError> {
        let result = self.session.with(&BTreeSet::new(), |library| act(&library.mig_gpu(uuid)?));
        result.map_err(|trouble: Trouble| trouble.about(work))
    }

    /// What an admin has cut since the last look would end with the driver.
    fn refuse_what_is_cut(&self, gpu: PciAddress, work: &Work) -> Result<(), WorkError> {
        let is_cut = self.session.with(&BTreeSet::new(), |library| {
            let gpu = match library.mig_gpu_at(&gpu.to_string()) {
                // Its driver does not have it.
                Err(error) if error.class() == ErrorClass::Gone => return Ok(false),
                gpu => gpu?,
            };
            let cut = gpu.mode()?.is_some_and(|mode| mode.current) && !gpu.gpu_instances()?.is_empty();
            Ok(cut)
        });
        let refused = match is_cut {
            Ok(false) | Err(Trouble::Driver(DiscoveryError::NoDriver { .. })) => return Ok(()),
            Ok(true) => Trouble::Text("partitions that were made by hand are there, remove them".to_owned()),
            Err(trouble) => trouble,
        };
        Err(WorkError { untouched: true, ..refused.about(work) })
    }
}

impl Workbench for NvidiaWorkbench {
    fn carry_out(&self, work: &Work, deadline: Instant) -> Result<Outcome, WorkError> {
        match work {
            Work::Join { uuid, .. } => {
                self.with_gpu(uuid, work, |gpu| switch(gpu, false, deadline).map(|()| Outcome::Done))
            }
            Work::Cut { uuid, shape, placement, .. } => {
                let begun = Cell::new(false);
                let done = self.with_gpu(uuid, work, |gpu| {
                    switch(gpu, true, deadline)?;
                    cut(gpu, MigProfileId(*shape), *placement, &begun).map(Outcome::Cut)
                });
                done.map_err(|error| WorkError { untouched: !begun.get(), ..error })
            }
            Work::Pass { accelerator } => {
                self.refuse_what_is_cut(*accelerator, work)?;
                self.passing.hand_over(*accelerator, deadline)
            }
        }
    }

    fn undo(&self, work: &Work, outcome: Option<&Outcome>, deadline: Instant) -> Result<(), WorkError> {
        match work {
            Work::Join { .. } => Ok(()),
            Work::Cut { uuid, shape, placement, .. } => {
                let known = outcome.and_then(|outcome| match outcome {
                    Outcome::Cut(made) => Some(made),
                    Outcome::Passed { .. } | Outcome::Done => None,
                });
                let undone = self.with_gpu(uuid, work, |gpu| {
                    until(deadline, || remove(gpu, MigProfileId(*shape), *placement, known))?;
                    join_if_empty(gpu);
                    Ok(())
                });
                // With the GPU, all that was cut from it is gone.
                undone.or_else(|error| if error.gone { Ok(()) } else { Err(error) })
            }
            Work::Pass { accelerator } => {
                let rebinding = outcome.and_then(|outcome| match outcome {
                    Outcome::Passed { rebinding, .. } => Some(rebinding),
                    Outcome::Cut(_) | Outcome::Done => None,
                });
                self.passing.take_back(*accelerator, rebinding, deadline)
            }
        }
    }

    fn holds(&self, work: &Work, outcome: &Outcome) -> Result<bool, WorkError> {
        match (work, outcome) {
            (Work::Cut { uuid, shape, placement, .. }, Outcome::Cut(known)) => self.with_gpu(uuid, work, |gpu| {
                let here = |found: &GpuInstance| lies(found, MigProfileId(*shape), *placement);
                let found = gpu.gpu_instances()?.into_iter().find(here);
                Ok(found.is_some_and(|found| made(&found).as_ref() == Some(known)))
            }),
            (Work::Join { uuid, .. }, Outcome::Done) => {
                self.with_gpu(uuid, work, |gpu| Ok(!gpu.mode()?.is_some_and(|mode| mode.current)))
            }
            (Work::Pass { accelerator }, Outcome::Passed { ways, .. }) => Ok(self.passing.holds(*accelerator, *ways)),
            _ => Ok(false),
        }
    }
}

/// Switches the mode, where it is not so already. A new mode needs an idle GPU.
fn switch(gpu: &MigGpu<'_>, on: bool, deadline: Instant) -> Result<(), Trouble> {
    match gpu.mode()? {
        Some(mode) if mode.current == on => return Ok(()),
        Some(_) => {}
        None if !on => return Ok(()),
        None => return Err(Trouble::Text("it cannot be cut by MIG, or its driver cannot".to_owned())),
    }
    match until(deadline, || gpu.set_mode(on)) {
        Ok(ModeChange::Done) => Ok(()),
        Ok(ModeChange::NeedsReset) => {
            // What waits for a reset would come as a surprise.
            let _ = gpu.set_mode(!on);
            let mode = if on { "on" } else { "off" };
            Err(Trouble::Text(format!(
                "MIG mode is switched {mode} by a reset of the GPU only: drain the node and do so"
            )))
        }
        Err(error) => {
            // The driver has noted the mode.
            let _ = gpu.set_mode(!on);
            Err(error.into())
        }
    }
}

/// Makes the instance. One that is there already is an admin's, made since the last look: what a claim had is undone
/// before the claim is prepared anew.
fn cut(gpu: &MigGpu<'_>, profile: MigProfileId, place: Placement, begun: &Cell<bool>) -> Result<Made, Trouble> {
    if gpu.gpu_instances()?.iter().any(|instance| lies(instance, profile, place)) {
        return Err(Trouble::Text("a partition that was made by hand is there, remove it".to_owned()));
    }
    begun.set(true);
    let found = gpu.create_gpu_instance(profile, tessera_nvml::Placement { start: place.start, size: place.size })?;
    match gpu.create_whole_compute_instance(found.id) {
        Ok(compute) => Ok(Made {
            gpu_instance: found.id.0,
            compute_instance: compute.id.0,
            uuid: compute.uuid.unwrap_or_default(),
        }),
        Err(error) => {
            // What is left is found again by its place.
            let _ = gpu.destroy_gpu_instance(found.id);
            Err(error.into())
        }
    }
}

/// Destroys the instance at a place, with all that is in it. That there is none is fine. One that is not the `known` one
/// stays: somebody destroyed that, and made another in its place.
fn remove(gpu: &MigGpu<'_>, profile: MigProfileId, place: Placement, known: Option<&Made>) -> Result<(), CallError> {
    let other = |instance: &GpuInstance| {
        known.is_some_and(|known| instance.compute_instances.iter().any(|own| own.uuid.as_ref() != Some(&known.uuid)))
    };
    let here = |instance: &GpuInstance| lies(instance, profile, place) && !other(instance);
    for instance in gpu.gpu_instances()?.into_iter().filter(here) {
        for compute in &instance.compute_instances {
            unless_gone(gpu.destroy_compute_instance(instance.id, compute.id))?;
        }
        unless_gone(gpu.destroy_gpu_instance(instance.id))?;
    }
    Ok(())
}

/// Once the last partition is gone the GPU is a whole again, for those too who know nothing of partitions: an agent that
/// offers none does not offer a GPU in that mode. Only where that takes no reset; what fails is done when a whole is wanted.
fn join_if_empty(gpu: &MigGpu<'_>) {
    let switches = gpu.switches_without_reset().unwrap_or(false);
    if switches && gpu.gpu_instances().is_ok_and(|instances| instances.is_empty()) {
        let _ = gpu.set_mode(false);
    }
}

fn lies(instance: &GpuInstance, profile: MigProfileId, place: Placement) -> bool {
    instance.profile == profile && placement(instance.placement) == place
}

fn unless_gone(result: Result<(), CallError>) -> Result<(), CallError> {
    result.or_else(|error| if error.class() == ErrorClass::Gone { Ok(()) } else { Err(error) })
}

/// Repeats what fails because something is in use, until the deadline.
fn until<T>(deadline: Instant, mut call: impl FnMut() -> Result<T, CallError>) -> Result<T, CallError> {
    loop {
        match call() {
            Err(error) if error.class() == ErrorClass::Busy && Instant::now() + AGAIN < deadline => {
                thread::sleep(AGAIN);
            }
            result => return result,
        }
    }
}

impl Trouble {
    fn about(self, work: &Work) -> WorkError {
        let accelerator = work.accelerator();
        let step = match work {
            Work::Join { .. } => "cannot be used as a whole".to_owned(),
            Work::Cut { placement, .. } => format!("cannot be cut at {placement}"),
            Work::Pass { .. } => "cannot be handed to user space".to_owned(),
        };
        let (cause, class) = match self {
            Self::Call(error) => (format!("{} failed: {}", error.call, error.source), Some(error.class())),
            Self::Driver(error) => (error.to_string(), None),
            Self::Text(text) => (text, None),
        };
        let advice = match class {
            Some(ErrorClass::Busy) => "; a process uses it, stop that",
            Some(ErrorClass::Occupied) => "; something made by hand is in the way, remove it",
            Some(ErrorClass::Lost) => "; reset the GPU or reboot the node",
            _ => "",
        };
        let cause: String = cause.chars().take(130).collect();
        WorkError {
            text: format!("GPU {accelerator} {step}: {cause}{advice}"),
            busy: class == Some(ErrorClass::Busy),
            gone: class == Some(ErrorClass::Gone),
            untouched: false,
        }
    }
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<DiscoveryError> for Trouble {
    fn from(error: DiscoveryError) -> Self {
        Self::Driver(error)
    }
}
