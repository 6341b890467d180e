use std::path::PathBuf;

use cdi::{Hook, HookName};
use tessera_hook::Arguments;

use crate::Root;
use crate::nvidia::{Installation, LoaderCache, SeenNodes};

/// The node, as far as containers are handed something of it: device nodes and the files of drivers.
#[derive(Debug)]
pub struct Host {
    root: Root,
    hook: Option<PathBuf>,
    nvidia: Option<Installation>,
    seen_nodes: SeenNodes,
}

impl Host {
    /// A host that hands out device nodes alone, those below `root`.
    pub fn new(root: Root) -> Self {
        Self { root, hook: None, nvidia: None, seen_nodes: SeenNodes::default() }
    }

    /// Hands out the files of NVIDIA's driver too, which is installed below `driver_root`: the node's own root, or that
    /// of a container that installs the driver (`/run/nvidia/driver`). Touches nothing yet.
    #[must_use]
    pub fn with_nvidia_driver(self, driver_root: Root, loader_cache: LoaderCache) -> Self {
        Self { nvidia: Some(Installation::new(driver_root, loader_cache)), ..self }
    }

    /// Looks whether device nodes and the drivers' files are as they were. What is handed out of them within the next moment costs no look
    /// then: whoever has to wait anyway does this meanwhile.
    pub fn look_ahead(&self) {
        if let Some(installation) = &self.nvidia {
            installation.look_ahead(&self.root);
        }
        self.seen_nodes.look_ahead();
    }

    /// Has containers run the program `tessera-hook`, as the container runtime sees it, for what a spec cannot say.
    #[must_use]
    pub fn with_hook(self, path: PathBuf) -> Self {
        Self { hook: Some(path), ..self }
    }

    /// What lets a container lock as much memory as it likes. `None` without a hook.
    pub(crate) fn lifting_locked_memory(&self) -> Option<Hook> {
        let arguments = Arguments { lift_locked_memory: true, ..Arguments::default() };
        Some(Hook {
            hook_name: HookName::CreateRuntime,
            path: self.hook.as_ref()?.to_string_lossy().into_owned(),
            args: arguments.to_args(),
            env: Vec::new(),
            timeout: None,
        })
    }

    /// The root of the node's file system.
    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    pub(crate) fn seen_nodes(&self) -> &SeenNodes {
        &self.seen_nodes
    }

    pub(crate) fn nvidia(&self) -> Option<&Installation> {
        self.nvidia.as_ref()
    }
}
