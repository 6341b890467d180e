//! VFIO passthrough: a whole PCI function handed to user space, for virtual machines. Knows no vendor.
//!
//! [`Rebinder::plan`] looks at a device and says what has to be moved to a VFIO driver: the device and the functions of
//! its slot. The [`Rebinding`] is data, to be kept before anything is done: [`Rebinding::steps`] lead there one by one,
//! and each can be done again and undone, by whoever has the data, after a death at any point. [`Rebinder::restore`]
//! needs no more than an address and what the function had before.
//!
//! Nothing here takes a lock that another device could wait for. The kernel's files may block for as long as a process
//! holds the device, where no signal helps; so each is used from a thread of its own and given up at the deadline that the
//! caller sets. Only the same device's next call waits for that thread.
//!
//! ```no_run
//! # use std::time::{Duration, Instant};
//! # use tessera_driver::{Root, nvidia, vfio::Rebinder};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let root = Root::new("/host", "/");
//! let rebinder = Rebinder::new(root.clone(), "/proc");
//! let deadline = Instant::now() + Duration::from_secs(30);
//! let gpu = "0000:3b:00.0".parse()?;
//! let rebinding = rebinder.plan(gpu, nvidia::holding_node(&root, gpu).into_iter().collect(), deadline)?;
//! // … keep it …
//! let state = rebinder.bind(&rebinding, deadline)?;
//! let edits = state.legacy().map(|interface| interface.container_edits(&root));
//! # Ok(())
//! # }
//! ```

mod cgroup;
mod error;
mod facts;
mod files;
mod group;
mod holders;
mod interface;
mod kernel_driver;
mod modules;
mod pending;
mod rebinder;
mod rebinding;
mod state;
mod work;

pub use cgroup::Container;
pub use error::{Class, VfioError};
pub use facts::{Passthrough, Ways};
pub(crate) use facts::{is_bound, passthrough};
pub(crate) use files::{binding as bound_to, group as group_of};
pub use group::{IommuGroup, Member};
pub use holders::Holder;
pub use interface::Interface;
pub use kernel_driver::{InvalidKernelDriver, KernelDriver};
pub use modules::VfioDriver;
pub use rebinder::Rebinder;
pub use rebinding::{Action, Moved, Original, Rebinding, Step};
pub use state::{Binding, VfioState};
