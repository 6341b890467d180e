//! What a handle or a search leads to: the machine, and its parts.

use std::cell::RefCell;
use std::sync::Arc;

use nvml_wrapper_sys::bindings::{nvmlComputeInstance_t, nvmlDevice_t, nvmlGpuInstance_t};
use simulated_hardware::state_file::StateFile;
use simulated_hardware::{
    Call, CallRecord, ComputeInstance, Gpu, GpuInstance, Hardware, Machine, MigTable, Model, NvmlError,
};

use crate::abi::Result;
use crate::handle;

/// One look at the machine. It does not change during a call.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) hardware: Arc<Hardware>,
    pub(crate) visible: Arc<[usize]>,
    pub(crate) state: StateFile,
    /// The call that this look was for, if calls are kept.
    pub(crate) call: RefCell<Option<Call>>,
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
    pub(crate) fn device(&self, device: nvmlDevice_t) -> Result<DeviceView<'_>> {
        match handle::to_mig_device(device) {
            Some(serial) => self.compute_instance(serial).map(DeviceView::Mig),
            None => self.gpu(handle::to_position(device).ok_or(NvmlError::INVALID_ARGUMENT)?).map(DeviceView::Gpu),
        }
    }

    /// Changes the machine, and its files with it: whatever a client makes is there when its call returns. Who may not
    /// write there is no root on the machine, so to say.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Hardware) -> Result<R>) -> Result<R> {
        let machine = Machine::of(self.state.clone());
        let changed = machine.try_update(|hardware| change(hardware).map_err(simulated_hardware::Error::Refused));
        let result = changed.map_err(|error| match error {
            simulated_hardware::Error::Refused(answer) => answer,
            _ => NvmlError::NO_PERMISSION,
        })?;
        if let Some(call) = &*self.call.borrow() {
            let call = Call { changed: true, ..call.clone() };
            CallRecord::of(&self.state).add(&call).map_err(|_| NvmlError::UNKNOWN)?;
        }
        Ok(result)
    }

    /// The GPUs that enumeration gives out, in PCI order.
    pub(crate) fn gpus(&self) -> impl Iterator<Item = GpuView<'_>> {
        self.visible.iter().filter_map(|position| self.gpu(*position).ok())
    }
}

impl<'v> GpuView<'v> {
    pub(crate) fn handle(&self) -> nvmlDevice_t {
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
    pub(crate) fn handle(&self) -> nvmlGpuInstance_t {
        handle::of_gpu_instance(self.instance.serial)
    }
}

impl ComputeInstanceView<'_> {
    pub(crate) fn handle(&self) -> nvmlComputeInstance_t {
        handle::of_compute_instance(self.own.serial)
    }

    pub(crate) fn device_handle(&self) -> nvmlDevice_t {
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
