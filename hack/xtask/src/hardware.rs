//! `cargo xtask hardware`.

use anyhow::Result;
use clap::Args;

use crate::clusters::NodeOf;

/// Which machine, and what to do with it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask hardware list                              the GPUs and their state
  cargo xtask hardware set 3 present=false               pull GPU 3 out; present=true puts it back
  cargo xtask hardware set 3 lost=true                   it is there but answers nothing
  cargo xtask hardware set 0 minor=5                     as after a reload of the driver
  cargo xtask hardware set tpu3 present=false            pull TPU chip 3 out
  cargo xtask hardware set tpu3 driver=none              unbind it; driver=vfio-pci binds it
  cargo xtask hardware set driver.version=580.65.06
  cargo xtask hardware set 0 fail=nvmlDeviceGetUUID:UNKNOWN
  cargo xtask hardware set fail=nvmlInitWithFlags:DRIVER_NOT_LOADED
  cargo xtask hardware set fail=none
  cargo xtask hardware set 0 latency_ms=500
  cargo xtask hardware event 0 xid=79                    the GPU falls off the bus
  cargo xtask hardware mig 0 on                          cut GPUs like an admin; Ampere then needs `reset 0`
  cargo xtask hardware mig 0 create 3g.40gb@4            a profile by name or id; without @ the driver chooses
  cargo xtask hardware mig 0 destroy 2
  cargo xtask hardware process 0 start pid=7 gi=2 ci=0   in the way of a destroy; `process 0 stop pid=7` ends it
  cargo xtask hardware record on                         then `calls` shows what NVML was asked
  cargo xtask hardware reboot                            instances, processes and modes are gone
  cargo xtask hardware --node node-2 set 3 lost=true     of another node than the first")]
pub(crate) struct Options {
    #[command(flatten)]
    of: NodeOf,
    /// `list`, `set [GPU] FIELD=VALUE...`, `event GPU TYPE=DATA`, `mig GPU ...`, `process GPU ...`, `reset GPU`, `reboot`,
    /// `record on` (or `off`) or `calls`; a GPU is an index, a UUID or a PCI address.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    words: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let said = options.of.with(|node| Ok(node.machine().run(&options.words)?))?;
    if !said.is_empty() {
        println!("{}", said.trim_end());
    }
    Ok(())
}
