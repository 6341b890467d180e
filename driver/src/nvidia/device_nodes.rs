use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use cdi::DeviceNode;
use tessera_vocabulary::PciAddress;

use super::driver_files::Stamps;
use super::remembered::Remembered;
use crate::{Host, Root};

/// The nodes that every CUDA program opens besides its GPU's own. Each is handed out where the node has it:
/// nvidia-uvm appears when its module is loaded, nvidia-modeset only with the display stack.
const COMMON: &[&str] = &["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset"];

/// The channel by which a program imports memory of other nodes' GPUs: the one that NVIDIA's driver makes at its start where
/// it is told to (its parameter `NVreg_CreateImexChannel0`), and its tools later. The service `nvidia-imex` of each node has
/// to run beside it.
const CHANNEL: &str = "/dev/nvidia-caps-imex-channels/channel0";

/// Where all of these lie.
const DIRECTORIES: &[&str] = &["/dev", "/dev/dri", "/dev/nvidia-caps-imex-channels"];

/// A GPU's device node is not there.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} does not exist; load the driver, or let nvidia-modprobe make the node", .0.display())]
pub struct MissingNode(PathBuf);

/// The GPU's own node and those that all of the driver's GPUs share.
pub(super) fn for_compute(host: &Host, minor: u32) -> Result<Vec<DeviceNode>, MissingNode> {
    let own = format!("/dev/nvidia{minor}");
    let own = find(host, &own).ok_or_else(|| MissingNode(host.root().seen_by_agent(&own)))?;
    let common = COMMON.iter().filter_map(|path| find(host, path));
    Ok(std::iter::once(own).chain(common).collect())
}

/// Those for rendering and displays: `/dev/dri/card<n>` and `/dev/dri/renderD<n>`, which sysfs knows by the GPU's address.
pub(super) fn for_graphics(host: &Host, address: PciAddress) -> Vec<DeviceNode> {
    host.seen_nodes().look(host, |seen| seen.graphics.entry(address).or_insert_with(|| graphics(host, address)).clone())
}

fn graphics(host: &Host, address: PciAddress) -> Vec<DeviceNode> {
    let listed = fs::read_dir(host.root().seen_by_agent(&format!("/sys/bus/pci/devices/{address}/drm")));
    let mut names: Vec<String> =
        listed.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name.starts_with("card") || name.starts_with("renderD"));
    names.sort();
    names.iter().filter_map(|name| search(host, &format!("/dev/dri/{name}"))).collect()
}

/// That for memory of other nodes' GPUs, if there is one. Without it programs reach them by the network alone.
pub(super) fn for_importing(host: &Host) -> Option<DeviceNode> {
    find(host, CHANNEL)
}

/// The node in the host's `/dev`, or in that of a container that installs the driver and makes nodes only there.
fn find(host: &Host, path: &str) -> Option<DeviceNode> {
    host.seen_nodes().look(host, |seen| {
        if let Some(known) = seen.nodes.get(path) {
            return known.clone();
        }
        let node = search(host, path);
        seen.nodes.insert(path.to_owned(), node.clone());
        node
    })
}

fn search(host: &Host, path: &str) -> Option<DeviceNode> {
    let root = roots(host).find(|root| root.seen_by_agent(path).exists())?;
    Some(root.device_node(path.to_owned()))
}

fn roots(host: &Host) -> impl Iterator<Item = &Root> {
    [Some(host.root()), host.nvidia().map(super::Installation::driver_root)].into_iter().flatten()
}

/// The nodes that were looked for, there or not: remembered as long as none comes or goes in the directories that they are in.
#[derive(Debug, Default)]
pub(crate) struct SeenNodes(Mutex<Option<Remembered<Seen>>>);

#[derive(Debug, Default)]
struct Seen {
    nodes: BTreeMap<String, Option<DeviceNode>>,
    graphics: BTreeMap<PciAddress, Vec<DeviceNode>>,
}

impl SeenNodes {
    /// Makes the next look within a moment one that asks nobody.
    pub(crate) fn look_ahead(&self) {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.take_if(|known| !known.is_still_so());
    }

    fn look<T>(&self, host: &Host, take: impl FnOnce(&mut Seen) -> T) -> T {
        let mut remembered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !remembered.as_mut().is_some_and(Remembered::is_still_so) {
            let directories = roots(host).flat_map(|root| DIRECTORIES.iter().map(|path| root.seen_by_agent(path)));
            *remembered = Remembered::new(Seen::default(), Stamps::of(directories), SystemTime::now());
        }
        match &mut *remembered {
            Some(known) => take(&mut known.found),
            None => take(&mut Seen::default()),
        }
    }
}
