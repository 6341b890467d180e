//! Changes of a machine, typed.

use super::CommandError;
use super::mig::{MigChange, ProcessChange};
use super::tpu::TpuSetting;
use crate::event::{Event, EventType};
use crate::fault::Fault;
use crate::hardware::{CudaVersion, Gpu, Hardware};
use crate::mig;
use crate::pci::PciAddress;
use crate::render::{FIRST_GPU, MAX_MINOR};

/// A change of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Give fields new values.
    Set {
        /// The GPU it is about; absent for the machine.
        gpu: Option<GpuReference>,
        /// The fields.
        settings: Vec<Setting>,
    },
    /// Change a TPU chip.
    Tpu {
        /// Its position in PCI order, counted over absent ones too.
        tpu: usize,
        /// What becomes of it.
        settings: Vec<TpuSetting>,
    },
    /// Raise an event.
    Event {
        /// The GPU that reports it.
        gpu: GpuReference,
        /// What kind.
        kind: EventType,
        /// The XID, or what the kind carries.
        data: u64,
        /// The GPU instance it is about; absent for the whole GPU.
        gpu_instance: Option<u32>,
        /// The compute instance it is about; absent for the whole GPU.
        compute_instance: Option<u32>,
    },
    /// Cut a GPU, or undo that.
    Mig {
        /// The GPU it is about.
        gpu: GpuReference,
        /// What is done.
        change: MigChange,
    },
    /// Start or stop a process on a GPU.
    Process {
        /// The GPU it is about.
        gpu: GpuReference,
        /// What is done.
        change: ProcessChange,
    },
    /// Reset a GPU.
    Reset {
        /// The GPU it is about.
        gpu: GpuReference,
    },
    /// Boot the machine again.
    Reboot,
}

/// One field and its new value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// Plug in or pull out.
    Present(bool),
    /// Off the bus or back.
    Lost(bool),
    /// Minor number of the device node.
    Minor(u32),
    /// Version of the driver.
    DriverVersion(String),
    /// Newest CUDA that the driver can run.
    DriverCuda(CudaVersion),
    /// Add a rule; its GPU is the command's.
    Fault(Fault),
    /// Take away all rules of the GPU, or all rules.
    NoFaults,
    /// Take away the rules of the GPU, or all rules, that only make calls slow.
    NoLatency,
}

/// How a command names a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuReference {
    /// Position in PCI order, counted over absent ones too.
    Index(usize),
    /// UUID with its `GPU-`.
    Uuid(String),
    /// PCI address.
    Pci(PciAddress),
}

impl GpuReference {
    pub(super) fn parse(word: &str) -> Result<Self, CommandError> {
        if let Ok(index) = word.parse() {
            return Ok(Self::Index(index));
        }
        if word.starts_with("GPU-") {
            return Ok(Self::Uuid(word.to_owned()));
        }
        let problem = "no GPU; allowed: an index, a UUID (GPU-...) or a PCI address (0000:1b:00.0)";
        word.parse().map(Self::Pci).map_err(|_| CommandError::new("gpu", word, problem))
    }

    fn position(&self, gpus: &[Gpu]) -> Result<usize, CommandError> {
        let (word, found) = match self {
            Self::Index(index) => (index.to_string(), (*index < gpus.len()).then_some(*index)),
            Self::Uuid(uuid) => (uuid.clone(), gpus.iter().position(|gpu| gpu.uuid == *uuid)),
            Self::Pci(pci) => (pci.to_string(), gpus.iter().position(|gpu| gpu.pci == *pci)),
        };
        found.ok_or_else(|| {
            let last = gpus.len().saturating_sub(1);
            CommandError::new(
                "gpu",
                &word,
                format!("the machine has none such; allowed: 0 to {last}, or what list shows"),
            )
        })
    }
}

impl Change {
    /// Carries the change out on a state. On an error the state may be half changed and must not be kept.
    pub fn apply(self, hardware: &mut Hardware) -> Result<(), CommandError> {
        match self {
            Self::Set { gpu, settings } => {
                let position = gpu.map(|gpu| gpu.position(&hardware.gpus)).transpose()?;
                settings.into_iter().try_for_each(|setting| set(hardware, position, setting))
            }
            Self::Tpu { tpu, settings } => settings.into_iter().try_for_each(|setting| setting.apply(hardware, tpu)),
            Self::Event { gpu, kind, data, gpu_instance, compute_instance } => {
                let pci = hardware.gpus[gpu.position(&hardware.gpus)?].pci;
                hardware.raise(Event { sequence: 0, gpu: pci, kind, data, gpu_instance, compute_instance });
                Ok(())
            }
            Self::Mig { gpu, change } => change.apply(hardware, gpu.position(&hardware.gpus)?),
            Self::Process { gpu, change } => change.apply(hardware, gpu.position(&hardware.gpus)?),
            Self::Reset { gpu } => {
                let position = gpu.position(&hardware.gpus)?;
                hardware.reset_gpu(position).map_err(|error| {
                    let problem = format!("the driver answers {error}; stop its processes first");
                    CommandError::new("gpu", &position.to_string(), problem)
                })
            }
            Self::Reboot => {
                hardware.reboot();
                Ok(())
            }
        }
    }
}

fn set(hardware: &mut Hardware, position: Option<usize>, setting: Setting) -> Result<(), CommandError> {
    let pci = position.map(|position| hardware.gpus[position].pci);
    match setting {
        Setting::Present(present) => {
            one(hardware, position, "present")?.present = present;
            // Its minor number may have been given to another one meanwhile.
            let minor = one(hardware, position, "present")?.minor;
            if present {
                set_minor(hardware, position, minor)?;
            }
        }
        Setting::Lost(lost) => one(hardware, position, "lost")?.lost = lost,
        Setting::Minor(minor) => set_minor(hardware, position, minor)?,
        Setting::DriverVersion(version) => hardware.driver.version = whole(position, "driver.version", version)?,
        Setting::DriverCuda(cuda) => hardware.driver.cuda = whole(position, "driver.cuda", cuda)?,
        Setting::Fault(fault) => {
            hardware.add_fault(Fault { gpu: pci, ..fault });
        }
        Setting::NoFaults => hardware.faults.retain(|fault| pci.is_some() && fault.gpu != pci),
        Setting::NoLatency => {
            hardware.faults.retain(|fault| fault.error.is_some() || (pci.is_some() && fault.gpu != pci));
        }
    }
    Ok(())
}

/// The GPU that a field belongs to.
fn one<'h>(hardware: &'h mut Hardware, position: Option<usize>, field: &str) -> Result<&'h mut Gpu, CommandError> {
    let position = position.ok_or_else(|| CommandError::new(field, "", "needs a GPU: set <gpu> <field>=<value>"))?;
    Ok(&mut hardware.gpus[position])
}

/// The value of a field that belongs to the whole machine.
fn whole<V>(position: Option<usize>, field: &str, value: V) -> Result<V, CommandError> {
    match position {
        None => Ok(value),
        Some(index) => Err(CommandError::new(field, &index.to_string(), "belongs to the machine: leave the GPU out")),
    }
}

fn set_minor(hardware: &mut Hardware, position: Option<usize>, minor: u32) -> Result<(), CommandError> {
    let text = minor.to_string();
    if minor > MAX_MINOR {
        return Err(CommandError::new("minor", &text, format!("allowed: 0 to {MAX_MINOR}")));
    }
    let taken =
        (0..).zip(&hardware.gpus).find(|(index, gpu)| Some(*index) != position && gpu.present && gpu.minor == minor);
    if let Some((index, _)) = taken {
        return Err(CommandError::new(
            "minor",
            &text,
            format!("GPU {index} has it; allowed: one that no present GPU has"),
        ));
    }
    if !mig::is_free(hardware, FIRST_GPU + minor) {
        return Err(CommandError::new(
            "minor",
            &text,
            "a MIG instance or a TPU has its device number; allowed: 0 to 11",
        ));
    }
    one(hardware, position, "minor")?.minor = minor;
    Ok(())
}
