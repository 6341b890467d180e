//! The mode, and what a reset and a reboot do to it.

use super::instance::Mig;
use crate::hardware::{ComputeMode, Gpu, Hardware};
use crate::model::Architecture;
use crate::nvml_error::NvmlError;

/// What became of a new mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// It is on, or off, as was asked.
    Done,
    /// It waits for a reset of the GPU or a reboot.
    ResetRequired,
    /// It waits until no process uses the GPU, and for somebody to ask again.
    InUse,
}

impl Hardware {
    /// Switches the mode of the GPU at a position. Ampere has to be reset for it, later ones change at once (NVIDIA's
    /// MIG guide). Processes on the GPU make the change wait, as nvml.h has it: a success whose activation is not.
    ///
    /// # Errors
    /// `NOT_SUPPORTED` on parts that cannot be cut, `IN_USE` when instances are in the way of switching it off.
    pub fn set_mig_mode(&mut self, gpu: usize, on: bool) -> Result<Activation, NvmlError> {
        let found = self.gpus.get(gpu).ok_or(NvmlError::INVALID_ARGUMENT)?;
        self.mig_table(found)?;
        if !on && !found.mig.gpu_instances.is_empty() {
            return Err(NvmlError::IN_USE);
        }
        let at_once = self.model(found).is_some_and(|model| model.architecture != Architecture::Ampere);
        let found = &mut self.gpus[gpu];
        found.mig.pending = on;
        if found.mig.mode == on {
            return Ok(Activation::Done);
        }
        if !found.processes.is_empty() {
            return Ok(Activation::InUse);
        }
        if !at_once {
            return Ok(Activation::ResetRequired);
        }
        found.mig.mode = on;
        Ok(Activation::Done)
    }

    /// Resets one GPU: instances are gone, and the mode that waited is there.
    ///
    /// # Errors
    /// `IN_USE` while processes use it.
    pub fn reset_gpu(&mut self, gpu: usize) -> Result<(), NvmlError> {
        let found = self.gpus.get_mut(gpu).ok_or(NvmlError::INVALID_ARGUMENT)?;
        if !found.processes.is_empty() {
            return Err(NvmlError::IN_USE);
        }
        let mode = found.mig.pending;
        found.mig = Mig { mode, pending: mode, gpu_instances: Vec::new() };
        Ok(())
    }

    /// Boots the machine again. No process, event, instance or mode that a client has set survives, but for one: Ampere
    /// keeps the MIG mode in its InfoROM (NVIDIA's MIG guide). A GPU that fell off the bus is back. The rules that make
    /// calls fail are the tester's and stay, and so do the counters that tell old handles and events from new ones.
    pub fn reboot(&mut self) {
        self.events.clear();
        let models = &self.models;
        for gpu in &mut self.gpus {
            let keeps = models.get(&gpu.model).is_some_and(|model| model.architecture == Architecture::Ampere);
            let mode = keeps && gpu.mig.pending;
            *gpu = Gpu {
                mig: Mig { mode, pending: mode, gpu_instances: Vec::new() },
                processes: Vec::new(),
                lost: false,
                persistence_mode: false,
                compute_mode: ComputeMode::Default,
                ..gpu.clone()
            };
        }
    }
}
