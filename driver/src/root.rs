use std::path::{Path, PathBuf};

/// The root of the node's file system (`/sys`, `/proc`, `/dev`, the driver's libraries), seen from two places.
///
/// An agent in a container sees the node's files below a mount; the container runtime, which acts on what we write
/// into CDI specs, sees them where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    agent: PathBuf,
    runtime: PathBuf,
}

impl Root {
    /// A root that the agent sees at `agent` and the container runtime at `runtime`. Both must be absolute.
    pub fn new(agent: impl Into<PathBuf>, runtime: impl Into<PathBuf>) -> Self {
        Self { agent: agent.into(), runtime: runtime.into() }
    }

    /// Where the agent finds `path`, an absolute path on the node.
    pub fn seen_by_agent(&self, path: &str) -> PathBuf {
        join(&self.agent, path)
    }

    /// Where the container runtime finds `path`, an absolute path on the node.
    pub fn seen_by_runtime(&self, path: &str) -> PathBuf {
        join(&self.runtime, path)
    }

    /// A device node of the node for a container. No permission to make nodes is ever given ("rw", not "rwm").
    pub(crate) fn device_node(&self, path: String) -> cdi::DeviceNode {
        let on_host = self.seen_by_runtime(&path).to_string_lossy().into_owned();
        cdi::DeviceNode {
            // Left out where it is the same: a spec without it is read by older runtimes too.
            host_path: (on_host != path).then_some(on_host),
            permissions: Some("rw".to_owned()),
            path,
            ..cdi::DeviceNode::default()
        }
    }
}

fn join(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_file_from_two_places() {
        let root = Root::new("/host", "/");
        assert_eq!(root.seen_by_agent("/dev/nvidia0"), Path::new("/host/dev/nvidia0"));
        assert_eq!(root.seen_by_runtime("/dev/nvidia0"), Path::new("/dev/nvidia0"));
    }
}
