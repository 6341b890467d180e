use crate::Root;
use crate::nvidia::{Installation, LoaderCache};

/// The node, as far as containers are handed something of it: device nodes and the files of drivers.
#[derive(Debug)]
pub struct Host {
    root: Root,
    nvidia: Option<Installation>,
}

impl Host {
    /// A host that hands out device nodes alone, those below `root`.
    pub fn new(root: Root) -> Self {
        Self { root, nvidia: None }
    }

    /// Hands out the files of NVIDIA's driver too, which is installed below `driver_root`: the node's own root, or that
    /// of a container that installs the driver (`/run/nvidia/driver`). Touches nothing yet.
    #[must_use]
    pub fn with_nvidia_driver(self, driver_root: Root, loader_cache: LoaderCache) -> Self {
        Self { nvidia: Some(Installation::new(driver_root, loader_cache)), ..self }
    }

    /// Looks whether the drivers' files are as they were. What is handed out of them within the next moment costs no look
    /// then: whoever has to wait anyway does this meanwhile.
    pub fn look_ahead(&self) {
        if let Some(installation) = &self.nvidia {
            installation.look_ahead(&self.root);
        }
    }

    /// The root of the node's file system.
    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    pub(crate) fn nvidia(&self) -> Option<&Installation> {
        self.nvidia.as_ref()
    }
}
