//! The PCI part of a simulated machine's kernel: a sysfs whose writes have effects.
//!
//! [`simulated_hardware`] renders a machine's sysfs as dead files. [`Mounted::boot`] puts a FUSE file system over them in
//! which drivers are bound and unbound as in a real kernel, with real file descriptors, real blocking and real error
//! numbers, so that what works here works there; the device nodes of VFIO come and go in `dev/`. What is on the bus is
//! still what the machine's profile and its commands say.
//!
//! | path below `sys/` | |
//! |---|---|
//! | `bus/pci/devices/<address>/` | `driver`, `driver_override`, `iommu_group`, `modalias`, `uevent`, `vfio-dev/vfio<n>` |
//! | `bus/pci/drivers/<driver>/` | `bind`, `unbind`, `new_id`, `module`, its functions |
//! | `bus/pci/drivers_probe` | |
//! | `kernel/iommu_groups/<group>/` | `devices/<address>`, `type` |
//! | `module/<module>/drivers/pci:<driver>` | |
//! | `kernel/debug/simulated-pci/control` | rules that make it fail or take long, see [`Rule`] |
//!
//! ```no_run
//! use simulated_sysfs::{Mounted, Setup};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let kernel = Mounted::boot("/tmp/node".as_ref(), Setup::default())?;
//! kernel.add_rule("remove driver=nvidia latency_ms=500".parse()?);
//! std::fs::write("/tmp/node/sys/bus/pci/drivers/nvidia/unbind", "0000:1b:00.0")?;
//! # Ok(())
//! # }
//! ```

mod control;
mod file_system;
mod function;
mod holders;
mod kernel;
mod matching;
mod mount;
mod nodes;
pub mod rule;
mod server;
mod setup;
mod tree;

pub use matching::{Id, Identity};
pub use mount::{Error, Mounted};
pub use rule::{Operation, Rule};
pub use setup::{Added, Driver, RELEASE, Setup, WhileHeld};
