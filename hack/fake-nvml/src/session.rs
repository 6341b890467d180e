//! What this process knows: whether it is initialised, the latest state of the machine, and how often it has called.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use simulated_hardware::state_file::{Stamp, StateFile};
use simulated_hardware::{
    ComputeInstance, Gpu, GpuInstance, Hardware, Machine, MigTable, Model, NvmlError, PciAddress, is_known_to,
};

use crate::abi::Result;
use crate::{handle, locate};

static SESSION: Mutex<Option<Session>> = Mutex::new(None);

/// Between the first initialisation and the last shutdown.
struct Session {
    /// Initialisations that have not been shut down.
    references: u32,
    state: StateFile,
    stamp: Stamp,
    hardware: Arc<Hardware>,
    /// Positions of the GPUs that enumeration gives out: those that were present when it last looked.
    visible: Arc<[usize]>,
    /// Calls that each fault has matched, by the fault's number.
    matched: HashMap<u64, u64>,
}

/// One look at the machine. It does not change during a call.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) hardware: Arc<Hardware>,
    pub(crate) visible: Arc<[usize]>,
    pub(crate) state: StateFile,
}

/// One GPU of a view.
#[derive(Clone, Copy)]
pub(crate) struct GpuView<'v> {
    pub(crate) machine: &'v View,
    /// Position in the machine's list.
    pub(crate) position: usize,
    pub(crate) gpu: &'v Gpu,
    pub(crate) model: &'v Model,
}

/// One GPU instance of a view.
#[derive(Clone, Copy)]
pub(crate) struct GpuInstanceView<'v> {
    pub(crate) gpu: GpuView<'v>,
    pub(crate) instance: &'v GpuInstance,
}

/// One compute instance of a view, which is also a MIG device.
#[derive(Clone, Copy)]
pub(crate) struct ComputeInstanceView<'v> {
    pub(crate) parent: GpuInstanceView<'v>,
    pub(crate) own: &'v ComputeInstance,
}

/// What a device handle stands for.
#[derive(Clone, Copy)]
pub(crate) enum DeviceView<'v> {
    Gpu(GpuView<'v>),
    Mig(ComputeInstanceView<'v>),
}

/// What the faults make of a call.
#[derive(Default)]
pub(crate) struct Verdict {
    pub(crate) latency: Duration,
    pub(crate) error: Option<NvmlError>,
}

impl View {
    /// The GPU at a position in the machine's list.
    pub(crate) fn gpu(&self, position: usize) -> Result<GpuView<'_>> {
        let gpu = self.hardware.gpus.get(position).ok_or(NvmlError::INVALID_ARGUMENT)?;
        let model = self.hardware.model(gpu).ok_or(NvmlError::UNKNOWN)?;
        Ok(GpuView { machine: self, position, gpu, model })
    }

    /// The GPU instance with a serial number. One that is destroyed is no valid argument.
    pub(crate) fn gpu_instance(&self, serial: u64) -> Result<GpuInstanceView<'_>> {
        let (position, instance) = self.hardware.gpu_instance(serial).ok_or(NvmlError::INVALID_ARGUMENT)?;
        Ok(GpuInstanceView { gpu: self.gpu(position)?, instance })
    }

    /// The compute instance with a serial number. One that is destroyed is no valid argument.
    pub(crate) fn compute_instance(&self, serial: u64) -> Result<ComputeInstanceView<'_>> {
        let (position, instance, own) = self.hardware.compute_instance(serial).ok_or(NvmlError::INVALID_ARGUMENT)?;
        Ok(ComputeInstanceView { parent: GpuInstanceView { gpu: self.gpu(position)?, instance }, own })
    }

    /// What a device handle stands for.
    pub(crate) fn device(&self, device: nvml_wrapper_sys::bindings::nvmlDevice_t) -> Result<DeviceView<'_>> {
        match handle::to_mig_device(device) {
            Some(serial) => self.compute_instance(serial).map(DeviceView::Mig),
            None => self.gpu(handle::to_position(device).ok_or(NvmlError::INVALID_ARGUMENT)?).map(DeviceView::Gpu),
        }
    }

    /// Changes the machine, and its files with it: whatever a client makes is there when its call returns. Who may not
    /// write there is no root on the machine, so to say.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Hardware) -> Result<R>) -> Result<R> {
        let machine = Machine::of(self.state.clone());
        machine.try_update(|hardware| change(hardware).map_err(simulated_hardware::Error::Refused)).map_err(|error| {
            match error {
                simulated_hardware::Error::Refused(answer) => answer,
                _ => NvmlError::NO_PERMISSION,
            }
        })
    }

    /// The GPUs that enumeration gives out, in PCI order.
    pub(crate) fn gpus(&self) -> impl Iterator<Item = GpuView<'_>> {
        self.visible.iter().filter_map(|position| self.gpu(*position).ok())
    }
}

impl<'v> GpuView<'v> {
    pub(crate) fn handle(&self) -> nvml_wrapper_sys::bindings::nvmlDevice_t {
        handle::of_gpu(self.position)
    }

    /// How it can be cut.
    pub(crate) fn mig_table(&self) -> Result<&'v MigTable> {
        self.model.mig.as_ref().ok_or(NvmlError::NOT_SUPPORTED)
    }

    /// The MIG devices, in the order of their indices: by the ids of GPU instance and compute instance.
    pub(crate) fn mig_devices(self) -> impl Iterator<Item = ComputeInstanceView<'v>> {
        let parents = self.gpu.mig.gpu_instances.iter().map(move |instance| GpuInstanceView { gpu: self, instance });
        parents.flat_map(|parent| {
            parent.instance.compute_instances.iter().map(move |own| ComputeInstanceView { parent, own })
        })
    }

    /// Whether anything can be had from it.
    pub(crate) fn is_reachable(&self) -> bool {
        self.gpu.present && !self.gpu.lost
    }
}

impl GpuInstanceView<'_> {
    pub(crate) fn handle(&self) -> nvml_wrapper_sys::bindings::nvmlGpuInstance_t {
        handle::of_gpu_instance(self.instance.serial)
    }
}

impl ComputeInstanceView<'_> {
    pub(crate) fn handle(&self) -> nvml_wrapper_sys::bindings::nvmlComputeInstance_t {
        handle::of_compute_instance(self.own.serial)
    }

    pub(crate) fn device_handle(&self) -> nvml_wrapper_sys::bindings::nvmlDevice_t {
        handle::of_mig_device(self.own.serial)
    }
}

impl<'v> DeviceView<'v> {
    /// The GPU that it is, or is a part of.
    pub(crate) fn gpu(&self) -> GpuView<'v> {
        match self {
            Self::Gpu(gpu) => *gpu,
            Self::Mig(device) => device.parent.gpu,
        }
    }
}

fn session() -> MutexGuard<'static, Option<Session>> {
    SESSION.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes one more reference. The faults of `function` come first. The session stays after a failure, so that their
/// counts go on: "fails twice, then works" can be had.
pub(crate) fn enter(function: &str, needs_gpus: bool) -> Result {
    let verdict = with_any(|current| {
        current.refresh()?;
        Ok(current.judge(function, None))
    })?;
    std::thread::sleep(verdict.latency);
    verdict.error.map_or(Ok(()), Err)?;
    with_any(|current| {
        current.refresh()?;
        current.look_again();
        // The code that nvidia-smi exits with when it says "No devices were found".
        if needs_gpus && current.visible.is_empty() {
            return Err(NvmlError::NOT_FOUND);
        }
        current.references += 1;
        Ok(())
    })
}

/// Gives one reference back.
pub(crate) fn leave() -> Result {
    match session().as_mut() {
        Some(current) if current.references > 0 => {
            current.references -= 1;
            Ok(())
        }
        _ => Err(NvmlError::UNINITIALIZED),
    }
}

/// The machine as it is now.
pub(crate) fn view() -> Result<View> {
    with_open(|current| {
        current.refresh()?;
        Ok(current.view())
    })
}

/// The machine as it is now, with enumeration brought up to date.
pub(crate) fn enumerate() -> Result<View> {
    with_open(|current| {
        current.refresh()?;
        current.look_again();
        Ok(current.view())
    })
}

/// Counts a call and says what the faults make of it. A function that the driver lacks is not found.
pub(crate) fn judge(function: &str, gpu: Option<PciAddress>) -> Result<Verdict> {
    with_open(|current| {
        if !is_known_to(function, &current.hardware.driver) {
            return Err(NvmlError::FUNCTION_NOT_FOUND);
        }
        Ok(current.judge(function, gpu))
    })
}

/// The session, opened if there is none, be it initialised or not.
fn with_any<R>(work: impl FnOnce(&mut Session) -> Result<R>) -> Result<R> {
    let mut guard = session();
    match guard.as_mut() {
        Some(current) => work(current),
        None => work(guard.insert(Session::open()?)),
    }
}

fn with_open<R>(work: impl FnOnce(&mut Session) -> Result<R>) -> Result<R> {
    match session().as_mut() {
        Some(current) if current.references > 0 => work(current),
        _ => Err(NvmlError::UNINITIALIZED),
    }
}

impl Session {
    fn open() -> Result<Self> {
        let state = locate::state_file().ok_or(NvmlError::DRIVER_NOT_LOADED)?;
        let (stamp, hardware) = state.read().map_err(|_| NvmlError::DRIVER_NOT_LOADED)?;
        let hardware = Arc::new(hardware);
        Ok(Self { references: 0, state, stamp, hardware, visible: Arc::new([]), matched: HashMap::new() })
    }

    /// Reads the state if it is another one than the one at hand.
    fn refresh(&mut self) -> Result {
        // The machine has been taken away: as when the driver is unloaded under a client.
        let stamp = self.state.stamp().map_err(|_| NvmlError::DRIVER_NOT_LOADED)?;
        if stamp != self.stamp {
            let (stamp, hardware) = self.state.read().map_err(|_| NvmlError::UNKNOWN)?;
            (self.stamp, self.hardware) = (stamp, Arc::new(hardware));
        }
        Ok(())
    }

    fn look_again(&mut self) {
        let present = self.hardware.gpus.iter().enumerate().filter(|(_, gpu)| gpu.present);
        self.visible = present.map(|(position, _)| position).collect();
    }

    fn view(&self) -> View {
        View { hardware: self.hardware.clone(), visible: self.visible.clone(), state: self.state.clone() }
    }

    fn judge(&mut self, function: &str, gpu: Option<PciAddress>) -> Verdict {
        let mut verdict = Verdict::default();
        for fault in self.hardware.faults.iter().filter(|fault| fault.matches(function, gpu)) {
            let count = self.matched.entry(fault.id).or_default();
            *count += 1;
            if fault.acts_on(*count) {
                verdict.latency += Duration::from_millis(fault.latency_ms);
                verdict.error = verdict.error.or(fault.error);
            }
        }
        verdict
    }
}
