//! The device nodes that stand for the right to use a MIG instance.

use std::path::PathBuf;
use std::{fs, io};

use cdi::{ContainerEdits, DeviceNode, DeviceType};

use crate::Root;

/// A compute instance of a MIG device: what a container is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigInstance {
    /// The number of the GPU's device node.
    pub gpu_minor: u32,
    /// The id of the GPU instance on its GPU.
    pub gpu_instance: u32,
    /// The id of the compute instance in its GPU instance.
    pub compute_instance: u32,
}

/// Why the nodes of a MIG instance cannot be handed out.
#[derive(Debug, thiserror::Error)]
pub enum CapabilityError {
    /// The driver does not know the instance, or does not run.
    #[error("{}: {source}; the MIG instance is gone, or the driver is not loaded", path.display())]
    Unknown {
        /// The file in which the driver tells the instance's number.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The driver's file does not say what it should.
    #[error("{} has no line DeviceFileMinor with a number; the driver is newer than this agent", .0.display())]
    NoNumber(PathBuf),
    /// Neither is there a node, nor can one be described to the runtime.
    #[error("{} does not exist and /proc/devices lists no nvidia-caps; make it by nvidia-modprobe -f {file}", node.display())]
    MissingNode {
        /// The node.
        node: PathBuf,
        /// The driver's file, on the node.
        file: String,
    },
}

/// The two nodes that a MIG instance's container opens besides those of the whole GPU: for the GPU instance and for the
/// compute instance. Where the node lacks one, the runtime makes it in the container by its number.
///
/// # Errors
/// See [`CapabilityError`].
pub fn mig_capabilities(root: &Root, instance: MigInstance) -> Result<ContainerEdits, CapabilityError> {
    let MigInstance { gpu_minor, gpu_instance, compute_instance } = instance;
    let of_gpu_instance = format!("/proc/driver/nvidia/capabilities/gpu{gpu_minor}/mig/gi{gpu_instance}");
    let files = [format!("{of_gpu_instance}/access"), format!("{of_gpu_instance}/ci{compute_instance}/access")];
    let nodes = files.iter().map(|file| capability(root, file));
    Ok(ContainerEdits { device_nodes: nodes.collect::<Result<_, _>>()?, ..ContainerEdits::default() })
}

fn capability(root: &Root, file: &str) -> Result<DeviceNode, CapabilityError> {
    let path = root.seen_by_agent(file);
    let text = fs::read_to_string(&path).map_err(|source| CapabilityError::Unknown { path: path.clone(), source })?;
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.and_then(|value| value.trim().parse::<u32>().ok())
    };
    let minor = value("DeviceFileMinor").ok_or(CapabilityError::NoNumber(path))?;
    let name = format!("/dev/nvidia-caps/nvidia-cap{minor}");
    let there = root.seen_by_agent(&name);
    if there.exists() {
        return Ok(root.device_node(name));
    }
    let major = major(root).ok_or_else(|| CapabilityError::MissingNode { node: there, file: file.to_owned() })?;
    Ok(DeviceNode {
        device_type: Some(DeviceType::Character),
        major: Some(major),
        minor: Some(minor),
        // In decimal; as the driver's own tool would make it.
        file_mode: value("DeviceFileMode"),
        // The type and both numbers are given, so no runtime looks for the node on the host.
        host_path: None,
        ..root.device_node(name)
    })
}

/// The kernel's major number of capability nodes, of which it says the name only.
fn major(root: &Root) -> Option<u32> {
    let devices = fs::read_to_string(root.seen_by_agent("/proc/devices")).ok()?;
    devices.lines().find_map(|line| line.trim().strip_suffix(" nvidia-caps")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTANCE: MigInstance = MigInstance { gpu_minor: 3, gpu_instance: 7, compute_instance: 0 };

    fn node_with(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let root = Root::new(directory.path(), "/");
        (directory, root)
    }

    const GI: (&str, &str) = (
        "proc/driver/nvidia/capabilities/gpu3/mig/gi7/access",
        "DeviceFileMinor: 66\nDeviceFileMode: 292\nDeviceFileModify: 1\n",
    );
    const CI: (&str, &str) = (
        "proc/driver/nvidia/capabilities/gpu3/mig/gi7/ci0/access",
        "DeviceFileMinor: 67\nDeviceFileMode: 292\nDeviceFileModify: 1\n",
    );
    const DEVICES: (&str, &str) =
        ("proc/devices", "Character devices:\n195 nvidia\n508 nvidia-caps-imex-channels\n509 nvidia-caps\n");

    #[test]
    fn nodes_that_are_there_are_taken_and_others_described() {
        let (_directory, root) = node_with(&[GI, CI, DEVICES, ("dev/nvidia-caps/nvidia-cap66", "")]);
        let edits = mig_capabilities(&root, INSTANCE).unwrap();
        let [access, compute] = &edits.device_nodes[..] else { panic!("{edits:?}") };
        assert_eq!((access.path.as_str(), access.major), ("/dev/nvidia-caps/nvidia-cap66", None));
        assert_eq!(compute.path, "/dev/nvidia-caps/nvidia-cap67");
        assert_eq!(
            (compute.device_type, compute.major, compute.minor),
            (Some(DeviceType::Character), Some(509), Some(67))
        );
        assert_eq!(compute.file_mode, Some(0o444));
        assert!(edits.device_nodes.iter().all(|node| node.permissions.as_deref() == Some("rw")));
    }

    #[test]
    fn what_is_missing_is_told_with_what_to_do() {
        for (files, expected) in [
            (&[][..], "gi7/access: No such file or directory (os error 2); the MIG instance is gone"),
            (&[GI, DEVICES], "ci0/access: No such file"),
            (&[GI, (CI.0, "Mode: 1\n"), DEVICES], "ci0/access has no line DeviceFileMinor"),
            (&[GI, CI], "make it by nvidia-modprobe -f /proc/driver/nvidia/capabilities/gpu3/mig/gi7/access"),
        ] {
            let (_directory, root) = node_with(files);
            let error = mig_capabilities(&root, INSTANCE).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
