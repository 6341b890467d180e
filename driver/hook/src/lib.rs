//! What a container needs before it starts so that its dynamic loader finds a driver's libraries: links and an entry
//! for each in the loader cache.
//!
//! Container runtimes run the program of this crate as a `createContainer` hook: when the container's mounts are made
//! and its root is not yet entered. It runs nothing of the container's and reads no library there: what to write comes
//! with its arguments, from whoever wrote the CDI spec. All it does is below the container's root directory, which may
//! be anybody's work: [`RootDirectory`] never leads out of it.
//!
//! The program is linked statically, since it runs on hosts that nobody knows. Linux 5.6 is needed (`openat2`).
//!
//! As a `createRuntime` hook it does something else: it lifts the limit of locked memory ([`lift_locked_memory`]), which
//! nothing in a CDI spec can say.
//!
//! Not for musl: its loader has no cache, and no driver's libraries are made for it.

mod arguments;
mod create_container;
mod device_files;
mod install;
mod loader_cache;
mod locked_memory;
mod oci;
mod root_directory;
mod write;

pub use arguments::{Arguments, InvalidArgument, Library, Link};
pub use create_container::{Error, create_container};
pub use install::install;
pub use loader_cache::{Architecture, Cache, Damaged, Entry};
pub use locked_memory::{LockedMemoryError, lift_locked_memory};
pub use root_directory::{FileKind, Resolved, RootDirectory};
