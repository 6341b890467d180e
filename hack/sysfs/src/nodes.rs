//! The nodes of VFIO in `dev/`, which come and go with the binding as devtmpfs makes them.
//!
//! They are virtual terminals, as all device nodes of simulated machines. Those from 20 on belong to the accelerators,
//! and logins use the lowest, so VFIO has 7 to 19: two for its shared nodes, the others for groups and devices in turn.
//! The group of a device and its node for iommufd are two ways to one thing and have one number.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::function::Function;
use crate::setup::Setup;

/// The kernel's major number of the terminals.
const MAJOR: u32 = 4;
const CONTAINER: u32 = 19;
const IOMMU: u32 = 18;
const FIRST_DEVICE: u32 = 7;
const DEVICES: u32 = IOMMU - FIRST_DEVICE;

/// The nodes that there are now, by their path below the machine's root, each with its terminal.
fn wanted<'a>(setup: &Setup, vfio: bool, functions: impl Iterator<Item = &'a Function>) -> BTreeSet<(String, u32)> {
    let mut nodes = BTreeSet::new();
    if vfio && setup.legacy {
        nodes.insert(("dev/vfio/vfio".to_owned(), CONTAINER));
    }
    if vfio && setup.iommufd {
        nodes.insert(("dev/iommu".to_owned(), IOMMU));
    }
    for function in functions {
        let Some(group) = function.group else { continue };
        let terminal = FIRST_DEVICE + group % DEVICES;
        let is_vfio = |name: &String| setup.drivers.iter().any(|driver| driver.vfio && driver.name == *name);
        if setup.legacy && function.driver.as_ref().is_some_and(is_vfio) {
            nodes.insert((format!("dev/vfio/{group}"), terminal));
        }
        if let Some(device) = function.vfio_device {
            nodes.insert((format!("dev/vfio/devices/vfio{device}"), terminal));
        }
    }
    nodes
}

/// Makes the nodes that are missing below the machine's root, and takes away those that are no longer there.
pub(crate) fn update<'a>(
    root: &Path,
    setup: &Setup,
    vfio: bool,
    functions: impl Iterator<Item = &'a Function>,
    present: &mut BTreeSet<(String, u32)>,
) -> io::Result<()> {
    let wanted = wanted(setup, vfio, functions);
    for (gone, _) in present.difference(&wanted) {
        remove(&root.join(gone))?;
    }
    for (name, terminal) in wanted.difference(present) {
        let path = root.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        remove(&path)?;
        mknodat(CWD, &path, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(MAJOR, *terminal))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    }
    *present = wanted;
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}
