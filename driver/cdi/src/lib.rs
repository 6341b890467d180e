//! Container Device Interface specs: types, validation, the lowest version, atomic files.
//!
//! A CDI spec tells a container runtime what to change in a container that is given a device: device nodes, mounts,
//! environment, hooks. A runtime reads every spec in its directories, each time one changes.
//!
//! - What the types can rule out, they do: names, versions, hook names and device types are checked when they are made.
//!   [`Spec::validate`] checks the rest, and [`Directory::write`] never writes a spec that fails it.
//! - A spec declares the lowest version that its content needs ([`Spec::minimum_version`]): a runtime with an older
//!   library refuses every device of a file whose version it does not know.
//! - A file is there whole or not at all, also after a crash.
//!
//! Reads and writes JSON only; runtimes also take YAML. Knows nothing of runtimes' caches or of priorities between
//! directories. Synchronous; no clock, no randomness.
//!
//! The format: CDI specification 1.1.0, and the Go module `tags.cncf.io/container-device-interface` v1.1.1 where that
//! is stricter or clearer.
//!
//! ```
//! use cdi::{ContainerEdits, Device, DeviceNode, Directory, FileName, QualifiedName, Spec};
//!
//! # let run = tempfile::tempdir()?;
//! # let path = run.path().join("cdi");
//! let gpu: QualifiedName = "example.com/gpu=claim-1-gpu-0".parse()?;
//! let edits = ContainerEdits { device_nodes: vec![DeviceNode::new("/dev/example0")], ..Default::default() };
//! let spec = Spec::new(gpu.kind.clone(), vec![Device::new(gpu.device.clone(), edits)]);
//!
//! let directory = Directory::open(path)?;
//! let file = FileName::transient(&gpu.kind, "claim-1")?;
//! directory.write(&file, &spec)?;
//! assert_eq!(file.as_str(), "example.com-gpu_claim-1.json");
//! assert_eq!(directory.read(&file)?, Some(spec));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod directory;
mod document;
mod edits;
mod file_name;
mod json;
mod names;
mod spec;
mod validate;
mod version;

pub use directory::{Directory, Error};
pub use document::{Document, Undocumentable};
pub use edits::{ContainerEdits, DeviceNode, DeviceType, Hook, HookName, IntelRdt, Mount, NetDevice};
pub use file_name::FileName;
pub use names::{DeviceName, InvalidName, Kind, QualifiedName};
pub use spec::{Device, Spec};
pub use validate::{Fault, Invalid};
pub use version::{UnknownVersion, Version};
