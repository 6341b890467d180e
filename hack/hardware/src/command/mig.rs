//! Cutting a GPU as an admin does, and processes that are in the way.

use super::CommandError;
use crate::hardware::Hardware;
use crate::mig::{GpuInstance, Placement};
use crate::model::MigTable;
use crate::nvml_error::NvmlError;
use crate::process::Process;

type Result<T> = std::result::Result<T, CommandError>;

/// A change of what a GPU is cut into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MigChange {
    /// Switch the mode.
    Mode(bool),
    /// Make a GPU instance, and a compute instance that is all of it.
    Create {
        /// What kind.
        profile: ProfileReference,
        /// The first memory slice; absent lets the driver choose.
        start: Option<u32>,
    },
    /// Destroy the GPU instance with this id, and its compute instances first.
    Destroy(u32),
}

/// How a command names a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProfileReference {
    /// By id: 19.
    Id(u32),
    /// By name: `1g.10gb`.
    Name(String),
}

impl MigChange {
    pub(super) fn parse(words: &[&str]) -> Result<Self> {
        const ALLOWED: &str = "allowed: on, off, create <profile>[@<start>], destroy <gi>";
        let number = |field: &str, word: &str| {
            word.parse().map_err(|_| CommandError::new(field, word, "allowed: a whole number, 0 or more"))
        };
        match words {
            ["on"] => Ok(Self::Mode(true)),
            ["off"] => Ok(Self::Mode(false)),
            ["create", what] => {
                let (profile, start) = what.split_once('@').map_or((*what, None), |(name, at)| (name, Some(at)));
                let start = start.map(|start| number("start", start)).transpose()?;
                let profile =
                    profile.parse().map_or_else(|_| ProfileReference::Name(profile.to_owned()), ProfileReference::Id);
                Ok(Self::Create { profile, start })
            }
            ["destroy", id] => number("gi", id).map(Self::Destroy),
            [first, ..] => Err(CommandError::new(
                "mig",
                &words[1..].iter().fold((*first).to_owned(), |text, word| text + " " + word),
                ALLOWED,
            )),
            [] => Err(CommandError::new("mig", "", ALLOWED)),
        }
    }

    pub(super) fn apply(self, hardware: &mut Hardware, gpu: usize) -> Result<()> {
        match self {
            Self::Mode(on) => {
                let word = if on { "on" } else { "off" };
                // What it waits for, if it waits, is what list shows.
                match hardware.set_mig_mode(gpu, on) {
                    Ok(_) => Ok(()),
                    Err(error) => Err(CommandError::new("mig", word, refusal(hardware, gpu, error))),
                }
            }
            Self::Create { profile, start } => create(hardware, gpu, &profile, start),
            Self::Destroy(id) => destroy(hardware, gpu, id),
        }
    }
}

/// A change of the processes on a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessChange {
    /// One more.
    Start(Process),
    /// The one with this process id ends.
    Stop(u32),
}

impl ProcessChange {
    pub(super) fn apply(self, hardware: &mut Hardware, gpu: usize) -> Result<()> {
        let found = &mut hardware.gpus[gpu];
        match self {
            Self::Start(process) => {
                if found.processes.iter().any(|other| other.pid == process.pid) {
                    return Err(CommandError::new(
                        "pid",
                        &process.pid.to_string(),
                        "runs there already; allowed: another",
                    ));
                }
                match process.instance {
                    None if found.mig.mode => {
                        let problem = "the GPU is cut: a process runs on an instance; allowed: gi=<id> ci=<id>";
                        return Err(CommandError::new("gi", "", problem));
                    }
                    Some((gi, ci)) if !has_instance(&found.mig.gpu_instances, gi, ci) => {
                        let problem = format!("no such instance; allowed: {}", instances(&found.mig.gpu_instances));
                        return Err(CommandError::new("gi", &format!("{gi} ci={ci}"), problem));
                    }
                    _ => found.processes.push(process),
                }
            }
            Self::Stop(pid) => {
                let before = found.processes.len();
                found.processes.retain(|process| process.pid != pid);
                if found.processes.len() == before {
                    return Err(CommandError::new("pid", &pid.to_string(), "no such process there; list shows them"));
                }
            }
        }
        Ok(())
    }
}

fn has_instance(all: &[GpuInstance], gi: u32, ci: u32) -> bool {
    all.iter().any(|parent| parent.id == gi && parent.compute_instances.iter().any(|own| own.id == ci))
}

/// The compute instances there are, as a command names them.
fn instances(all: &[GpuInstance]) -> String {
    let own = all.iter().flat_map(|parent| parent.compute_instances.iter().map(move |own| (parent.id, own.id)));
    let words: Vec<String> = own.map(|(gi, ci)| format!("gi={gi} ci={ci}")).collect();
    if words.is_empty() { "none: mig <gpu> create makes one".to_owned() } else { words.join(", ") }
}

fn create(hardware: &mut Hardware, gpu: usize, profile: &ProfileReference, start: Option<u32>) -> Result<()> {
    let word = match profile {
        ProfileReference::Id(id) => id.to_string(),
        ProfileReference::Name(name) => name.clone(),
    };
    let refused = |error| CommandError::new("mig", "create", refusal(hardware, gpu, error));
    let table = hardware.mig_table(&hardware.gpus[gpu]).map_err(refused)?;
    let row = table.profiles.iter().find(|row| match profile {
        ProfileReference::Id(id) => row.id == *id,
        ProfileReference::Name(name) => row.name == *name,
    });
    let row =
        row.ok_or_else(|| CommandError::new("profile", &word, format!("no such profile; allowed: {}", names(table))))?;
    if let Some(start) = start.filter(|start| !row.starts.contains(start)) {
        let problem = format!("{} does not start there; allowed: {:?}", row.name, row.starts);
        return Err(CommandError::new("start", &start.to_string(), problem));
    }
    let (id, at) = (row.id, start.map(|start| Placement { start, size: row.size }));
    let whole = row.slices;
    let refused = |error| CommandError::new("profile", &word, refusal(hardware, gpu, error));
    let mut changed = hardware.clone();
    let serial = changed.create_gpu_instance(gpu, id, at).map_err(refused)?;
    let profiles = changed.compute_instance_profiles(serial).map_err(refused)?;
    let whole = profiles.iter().find(|profile| profile.slices == whole).map_or(0, |profile| profile.id);
    changed.create_compute_instance(serial, whole, None).map_err(refused)?;
    *hardware = changed;
    Ok(())
}

fn destroy(hardware: &mut Hardware, gpu: usize, id: u32) -> Result<()> {
    let word = id.to_string();
    let all = &hardware.gpus[gpu].mig.gpu_instances;
    let Some(found) = all.iter().find(|instance| instance.id == id) else {
        let ids: Vec<u32> = all.iter().map(|instance| instance.id).collect();
        return Err(CommandError::new("gi", &word, format!("no such GPU instance; allowed: {ids:?}")));
    };
    let parent = found.serial;
    let own: Vec<u64> = found.compute_instances.iter().map(|own| own.serial).collect();
    let mut changed = hardware.clone();
    let done = own.into_iter().try_for_each(|own| changed.destroy_compute_instance(own));
    let done = done.and_then(|()| changed.destroy_gpu_instance(parent));
    done.map_err(|error| CommandError::new("gi", &word, refusal(hardware, gpu, error)))?;
    *hardware = changed;
    Ok(())
}

fn names(table: &MigTable) -> String {
    let names: Vec<String> = table.profiles.iter().map(|row| format!("{} ({})", row.name, row.id)).collect();
    names.join(", ")
}

/// The driver's answer and what to do about it.
fn refusal(hardware: &Hardware, gpu: usize, error: NvmlError) -> String {
    let found = &hardware.gpus[gpu];
    let hint = match error {
        NvmlError::NOT_SUPPORTED if hardware.mig_table(found).is_err() => "this GPU cannot be cut".to_owned(),
        NvmlError::NOT_SUPPORTED if found.mig.pending => "the mode waits for a reset: reset <gpu> or reboot".to_owned(),
        NvmlError::NOT_SUPPORTED => "the mode is off: mig <gpu> on".to_owned(),
        NvmlError::INSUFFICIENT_RESOURCES => {
            let taken: Vec<String> = found.mig.gpu_instances.iter().map(|one| one.placement.to_string()).collect();
            format!("no room beside {}", taken.join(", "))
        }
        NvmlError::IN_USE if found.processes.is_empty() => "destroy its instances first".to_owned(),
        NvmlError::IN_USE => "stop its processes first".to_owned(),
        _ => "see the NVML reference".to_owned(),
    };
    format!("the driver answers {error}: {hint}")
}
