use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use tessera_vocabulary::PciAddress;

use crate::Accelerator;

/// One vendor's way to its hardware: the first of the three traits that a vendor implements. [`Vendor`](crate::Vendor) is
/// what it owes about each accelerator that it finds, [`Workbench`](crate::Workbench) about changing hardware.
///
/// A backend is asked again and again, from one thread, for as long as the agent runs: drivers come and go under it.
pub trait Backend: Send {
    /// Whether anything of the vendor is on the node: a device on the bus, whoever has it, or the software without which no
    /// device answers. What is not even there is not worth a look, and nothing is said about it. Also where that cannot be
    /// known: the look says why. Reads few files and loads nothing.
    fn is_present(&self) -> bool;

    /// Looks at the hardware as it is now.
    ///
    /// # Errors
    /// When nothing can be said about any accelerator. One that is sick alone is a [`Discovery::problems`] entry; the
    /// health of each is told so too, by who is in [`Discovery::on_the_bus`] and not in [`Discovery::accelerators`].
    fn discover(&mut self) -> Result<Discovery, DiscoveryError>;
}

impl<B: Backend + ?Sized> Backend for Box<B> {
    fn is_present(&self) -> bool {
        self.as_ref().is_present()
    }

    fn discover(&mut self) -> Result<Discovery, DiscoveryError> {
        self.as_mut().discover()
    }
}

/// What one look at the hardware found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// The accelerators that answer, by PCI address.
    pub accelerators: Vec<Accelerator>,
    /// The vendor's accelerators that sysfs shows, whether their driver answers or not.
    pub on_the_bus: BTreeSet<PciAddress>,
    /// What was wrong with single accelerators, in words.
    pub problems: Vec<String>,
}

/// Why nothing can be said about a vendor's accelerators.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// The vendor's driver is not installed on this node. Usual on a node without such accelerators.
    #[error("no {library} below {root}; install the driver, or name its root directory")]
    NoDriver {
        /// The library that was looked for.
        library: &'static str,
        /// The driver's root directory.
        root: String,
    },
    /// What the kernel tells cannot be read.
    #[error("{} cannot be read: {source}; the agent needs the node's /sys", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The driver is there and is unusable, or failed while it was asked.
    #[error(transparent)]
    Driver(Box<dyn std::error::Error + Send + Sync>),
}
