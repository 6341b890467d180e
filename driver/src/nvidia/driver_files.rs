//! What of NVIDIA's driver containers need besides device nodes, found below the driver's root directory by its names.
//!
//! The names are those that NVIDIA's own container toolkit hands out. Only files of one driver version are taken: that of
//! the kernel module that is loaded, since a library of another version refuses to work with it.

mod binaries;
mod configuration;
mod elf;
mod firmware;
mod graphics;
mod libraries;
mod nvml;
mod search;
mod sockets;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
mod version;

use tessera_hook::{Architecture, Link};

use crate::Root;
use search::Search;

pub(super) use nvml::{NVML, find_nvml};
pub(super) use search::Stamps;
pub(super) use version::loaded;

/// The files of one driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DriverFiles {
    /// The driver's version, as its files spell it.
    pub(super) version: String,
    /// What the dynamic loader finds by name.
    pub(super) libraries: Vec<Library>,
    /// Programs, firmware, configuration, and libraries that others open by path.
    pub(super) files: Vec<File>,
    /// Sockets of daemons, and directories of such.
    pub(super) sockets: Vec<File>,
    /// Names beside the files, for files that are opened by path.
    pub(super) links: Vec<FileLink>,
}

/// A file of the driver.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct File {
    /// Where it belongs in a container.
    pub(super) inside: String,
    /// Where the container runtime finds it; no link is left in this path.
    pub(super) on_host: String,
}

/// A shared library of the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Library {
    pub(super) file: File,
    pub(super) architecture: Architecture,
    /// The names that programs ask for, the SONAME first.
    pub(super) names: Vec<String>,
}

/// A further name of a file, where no loader makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileLink {
    /// The link, for containers in which one can be made.
    pub(super) link: Link,
    /// What it leads to, for the others.
    pub(super) on_host: String,
}

/// Why there are no driver files to hand out. On a node whose driver is not installed, or not yet, that is no fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::nvidia) enum NoDriverFiles {
    /// The root directory cannot be opened.
    #[error("the driver's root {root}: {reason}; name the directory that the driver is installed in")]
    Root {
        /// The directory, as the agent sees it.
        root: String,
        /// What the system said.
        reason: String,
    },
    /// There is no CUDA library at all.
    #[error(
        "no {wanted} below {root}, by its /etc/ld.so.cache or in {looked}; install the driver's libraries for compute, \
         or name the directory that the driver is installed in"
    )]
    NoCuda {
        /// The library.
        wanted: String,
        /// The driver's root, as the agent sees it.
        root: String,
        /// The directories, as seen from the root.
        looked: String,
    },
    /// The CUDA library is one of another driver.
    #[error(
        "the kernel module is {loaded}, but {found} is what lies below {root}; reload the module or reboot the node, \
         once the installation is complete"
    )]
    OtherVersion {
        /// The version of the loaded kernel module.
        loaded: String,
        /// The libraries that are there.
        found: String,
        /// The driver's root, as the agent sees it.
        root: String,
    },
}

/// Looks for everything below `driver_root`; `loaded` is the version of the kernel module, where it is known. Says also
/// what the result depends on.
pub(super) fn find(
    node: &Root,
    driver_root: &Root,
    loaded: Option<&str>,
) -> (Result<DriverFiles, NoDriverFiles>, Stamps) {
    match Search::new(driver_root) {
        Ok(mut search) => {
            let found = everything(node, &mut search, loaded);
            (found, search.into_stamps())
        }
        Err(error) => {
            let root = driver_root.seen_by_agent("/");
            let stamps = Stamps::of([root.clone()]);
            (Err(NoDriverFiles::Root { root: root.display().to_string(), reason: error.to_string() }), stamps)
        }
    }
}

fn everything(node: &Root, search: &mut Search<'_>, loaded: Option<&str>) -> Result<DriverFiles, NoDriverFiles> {
    let (version, libraries) = libraries::find(search, loaded)?;
    let graphics = graphics::find(search, &version, &libraries);
    let mut files = graphics.files;
    files.extend(binaries::find(search));
    files.extend(configuration::find(search));
    files.extend(firmware::find(search, node, &version));
    files.sort();
    files.dedup_by(|later, earlier| later.inside == earlier.inside);
    Ok(DriverFiles { version, libraries, files, sockets: sockets::find(search), links: graphics.links })
}
