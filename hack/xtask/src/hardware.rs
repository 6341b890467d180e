//! `cargo xtask hardware`.

use anyhow::Result;
use clap::Args;
use cluster::ClusterName;
use simulated_node::SimulatedNode;

use crate::clusters::DEFAULT_NAME;

/// Which machine, and what to do with it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask hardware list                              the GPUs and their state
  cargo xtask hardware set 3 present=false               pull GPU 3 out; present=true puts it back
  cargo xtask hardware set 3 lost=true                   it is there but answers nothing
  cargo xtask hardware set 0 minor=5                     as after a reload of the driver
  cargo xtask hardware set driver.version=580.65.06
  cargo xtask hardware set 0 fail=nvmlDeviceGetUUID:UNKNOWN
  cargo xtask hardware set fail=nvmlInitWithFlags:DRIVER_NOT_LOADED
  cargo xtask hardware set fail=none
  cargo xtask hardware set 0 latency_ms=500
  cargo xtask hardware event 0 xid=79                    the GPU falls off the bus")]
pub(crate) struct Options {
    /// The cluster.
    #[arg(long, default_value = DEFAULT_NAME)]
    name: ClusterName,
    /// `list`, `set [GPU] FIELD=VALUE...` or `event GPU TYPE=DATA`; a GPU is an index, a UUID or a PCI address.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    words: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let said = SimulatedNode::open(&options.name)?.machine().run(&options.words)?;
    if !said.is_empty() {
        println!("{}", said.trim_end());
    }
    Ok(())
}
