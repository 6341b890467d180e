//! The command language of `cargo xtask hardware`: words in, a change of the machine out.
//!
//! ```text
//! list
//! set [<gpu>] <field>=<value>...
//! set tpu<n> <field>=<value>...
//! event <gpu> <type>=<data> [gi=<id>] [ci=<id>]
//! mig <gpu> on | off
//! mig <gpu> create <profile>[@<start>]
//! mig <gpu> destroy <gi>
//! process <gpu> start pid=<n> [memory_mib=<n>] [gi=<id> ci=<id>]
//! process <gpu> stop pid=<n>
//! reset <gpu>
//! reboot
//! record on | off
//! calls
//! ```
//!
//! A GPU is given by its index in PCI order, counted over absent ones too, by UUID or by PCI address.
//!
//! | field of `set` | GPU | value |
//! |---|---|---|
//! | `present`, `lost` | needed | `true` or `false` |
//! | `minor` | needed | 0 to 31, not another present GPU's |
//! | `driver.version`, `driver.cuda` | none | a version |
//! | `fail` | optional | `<function>:<error>`, like `nvmlDeviceGetUUID:GPU_IS_LOST`; `none` takes all rules away |
//! | `latency_ms` | optional | milliseconds before each call; 0 takes such rules away, and calls that wait go on |
//! | `function` | | with `latency_ms`: only this function |
//! | `from`, `times` | | with `fail` or `latency_ms`: first call that the rule acts on (1 = next), and how many |
//!
//! A TPU is given by its index in PCI order, counted over absent ones too.
//!
//! | field of `set tpu<n>` | value |
//! |---|---|
//! | `present` | `true` or `false` |
//! | `driver` | the kernel driver that has it, such as `vfio-pci`, or `none` |
//! | `number` | of its IOMMU group or its `/dev/accel` |
//! | `class` | whether its driver, if that is not VFIO's, says by the class of accelerators which node is its own |
//!
//! Types of `event` are the words in [`crate::EventType::ALL`]; `xid=79` also takes the GPU off the bus.
//!
//! | command | as the admin's | what happens |
//! |---|---|---|
//! | `mig on`, `mig off` | `nvidia-smi -mig 1`, `-mig 0` | the mode changes, on Ampere after a reset; processes make it wait, instances refuse `off` |
//! | `mig create` | `nvidia-smi mig -cgi <profile> -C` | a GPU instance, with a compute instance that is all of it; a profile by name or id; without a start the driver chooses |
//! | `mig destroy` | `nvidia-smi mig -dci`, `-dgi` | the GPU instance with this id goes with its compute instances, unless a process is on one |
//! | `process start`, `stop` | a CUDA program | in the way of others: on a whole GPU while the mode is off, otherwise on an instance |
//! | `reset` | `nvidia-smi --gpu-reset` | instances go, a mode that waits comes; processes refuse it |
//! | `reboot` | `reboot` | processes, events, instances and modes go, Ampere alone keeps its MIG mode; lost GPUs are back |
//! | `record`, `calls` | `strace` | which functions of NVML were called since `record on`, about which GPU, and which of them changed the machine |

mod change;
mod listing;
mod mig;
mod parse;
#[cfg(test)]
mod tests;
mod tpu;

pub use change::{Change, GpuReference, Setting};
pub use listing::{Listing, Row};
pub use mig::{MigChange, ProcessChange, ProfileReference};
pub use tpu::TpuSetting;

/// A command, read but not yet carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Show the GPUs and the faults.
    List,
    /// Show the calls of NVML that were kept.
    Calls,
    /// Keep the calls of NVML from now on, or no longer.
    Record(bool),
    /// Change the machine.
    Change(Change),
}

impl Command {
    /// Reads a command.
    pub fn parse(words: &[impl AsRef<str>]) -> Result<Self, CommandError> {
        let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
        parse::command(&words)
    }
}

/// What is wrong with a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value:?}: {problem}")]
pub struct CommandError {
    /// Which part of the command.
    pub field: String,
    /// What stands there.
    pub value: String,
    /// What is wrong with it, and what is allowed.
    pub problem: String,
}

impl CommandError {
    fn new(field: &str, value: &str, problem: impl Into<String>) -> Self {
        Self { field: field.to_owned(), value: value.to_owned(), problem: problem.into() }
    }
}
