//! What sysfs shows of the kernel's state: the paths that live, over those that are rendered.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use simulated_hardware::PciAddress;

use crate::function::Function;
use crate::kernel::State;
use crate::setup::Setup;

/// All of a driver's directory lives, whatever is rendered there.
const DRIVERS: &str = "bus/pci/drivers";

/// What makes operations of this kernel fail or take long, where a real one has debugfs.
pub(crate) const CONTROL: &str = "kernel/debug/simulated-pci/control";

/// A path of sysfs that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    Directory,
    Link(String),
    Text(String),
    Attribute(Attribute),
}

/// A file whose writes have effects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Attribute {
    DriverOverride(PciAddress),
    Bind(String),
    Unbind(String),
    NewId(String),
    DriversProbe,
    Control,
}

impl Attribute {
    /// Whether it can be read; the others can only be written.
    pub(crate) fn is_readable(&self) -> bool {
        matches!(self, Self::DriverOverride(_))
    }
}

/// The paths that live, below `sys` and without a leading slash.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    nodes: BTreeMap<String, Node>,
    /// Rendered paths that are not there now.
    hidden: BTreeSet<String>,
}

impl Tree {
    pub(crate) fn node(&self, path: &str) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// Whether a rendered path is not to be seen.
    pub(crate) fn hides(&self, path: &str) -> bool {
        path.strip_prefix(DRIVERS).is_some_and(|rest| rest.starts_with('/'))
            || self.hidden.iter().any(|hidden| {
                path.strip_prefix(hidden.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
    }

    /// The names in a directory that live.
    pub(crate) fn children<'a>(&'a self, directory: &str) -> impl Iterator<Item = (&'a str, &'a Node)> {
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let from = self.nodes.range(prefix.clone()..);
        from.take_while({
            let prefix = prefix.clone();
            move |(path, _)| path.starts_with(&prefix)
        })
        .filter_map(move |(path, node)| {
            let name = &path[prefix.len()..];
            (!name.is_empty() && !name.contains('/')).then_some((name, node))
        })
    }

    fn put(&mut self, path: String, node: Node) {
        let mut parent = path.as_str();
        while let Some((directory, _)) = parent.rsplit_once('/') {
            if self.nodes.insert(directory.to_owned(), Node::Directory).is_some() {
                break;
            }
            parent = directory;
        }
        self.nodes.insert(path, node);
    }

    fn line(&mut self, path: String, line: impl std::fmt::Display) {
        self.put(path, Node::Text(format!("{line}\n")));
    }

    /// A relative link, as the kernel makes them.
    fn link(&mut self, path: String, target: &str) {
        let target = relative(&path, target);
        self.put(path, Node::Link(target));
    }
}

pub(crate) fn build(state: &State, setup: &Setup, rendered: &Path) -> Tree {
    let mut tree = Tree::default();
    for (driver, _) in &state.drivers {
        let directory = format!("{DRIVERS}/{}", driver.name);
        let name = || driver.name.clone();
        tree.put(format!("{directory}/bind"), Node::Attribute(Attribute::Bind(name())));
        tree.put(format!("{directory}/unbind"), Node::Attribute(Attribute::Unbind(name())));
        tree.put(format!("{directory}/new_id"), Node::Attribute(Attribute::NewId(name())));
        tree.link(format!("{directory}/module"), &format!("module/{}", driver.module));
        tree.link(format!("module/{}/drivers/pci:{}", driver.module, driver.name), &directory);
    }
    tree.put("bus/pci/drivers_probe".to_owned(), Node::Attribute(Attribute::DriversProbe));
    tree.put(CONTROL.to_owned(), Node::Attribute(Attribute::Control));
    tree.put("kernel/iommu_groups".to_owned(), Node::Directory);
    tree.put("class/iommu".to_owned(), Node::Directory);
    if setup.iommu {
        tree.put("class/iommu/dmar0".to_owned(), Node::Directory);
    }
    for (address, function) in &state.functions {
        let vfio = function.driver.as_ref().is_some_and(|name| state.driver(name).is_some_and(|(one, _)| one.vfio));
        function_files(&mut tree, *address, function, vfio, rendered);
    }
    tree
}

fn function_files(tree: &mut Tree, address: PciAddress, function: &Function, vfio: bool, rendered: &Path) {
    let directory = &function.directory;
    if !function.rendered {
        let identity = &function.identity;
        tree.link(format!("bus/pci/devices/{address}"), directory);
        for (name, number) in [
            ("vendor", identity.vendor),
            ("device", identity.device),
            ("subsystem_vendor", identity.subsystem_vendor),
            ("subsystem_device", identity.subsystem_device),
        ] {
            tree.line(format!("{directory}/{name}"), format_args!("{number:#06x}"));
        }
        tree.line(format!("{directory}/class"), format_args!("{:#08x}", identity.class));
    }
    tree.line(format!("{directory}/modalias"), function.identity);
    tree.put(format!("{directory}/uevent"), Node::Text(uevent(address, function, rendered)));
    tree.put(format!("{directory}/driver_override"), Node::Attribute(Attribute::DriverOverride(address)));
    if let Some(number) = function.virtual_functions {
        tree.line(format!("{directory}/sriov_numvfs"), number);
    }
    if let Some(driver) = function.driver.as_ref().filter(|_| function.linked) {
        tree.link(format!("{directory}/driver"), &format!("{DRIVERS}/{driver}"));
        tree.link(format!("{DRIVERS}/{driver}/{address}"), directory);
    } else {
        tree.hidden.insert(format!("{directory}/driver"));
    }
    if vfio || !function.linked {
        // The display driver's children go with it.
        tree.hidden.insert(format!("{directory}/drm"));
    }
    if let Some(group) = function.group {
        let path = format!("kernel/iommu_groups/{group}");
        tree.link(format!("{directory}/iommu_group"), &path);
        tree.link(format!("{path}/devices/{address}"), directory);
        tree.line(format!("{path}/type"), "DMA");
    }
    if let Some(number) = function.vfio_device {
        // The major number is dynamic; 511 is the first that the kernel gives away.
        tree.line(format!("{directory}/vfio-dev/vfio{number}/dev"), format_args!("511:{number}"));
    }
}

/// `DRIVER` says what `dev->driver` is, also while the driver is letting go.
fn uevent(address: PciAddress, function: &Function, rendered: &Path) -> String {
    let driver = function.driver.as_ref().map(|name| format!("DRIVER={name}\n")).unwrap_or_default();
    let rest = fs::read_to_string(rendered.join(&function.directory).join("uevent"));
    let rest = rest.unwrap_or_else(|_| {
        let identity = &function.identity;
        let (vendor, device) = (identity.vendor, identity.device);
        format!("PCI_CLASS={:X}\nPCI_ID={vendor:04X}:{device:04X}\nPCI_SLOT_NAME={address}\n", identity.class)
    });
    let rest: String = rest.split_inclusive('\n').filter(|line| !line.starts_with("DRIVER=")).collect();
    driver + &rest
}

fn relative(path: &str, target: &str) -> String {
    let (from, to): (Vec<&str>, Vec<&str>) = (path.split('/').collect(), target.split('/').collect());
    let shared = from.iter().zip(&to).take_while(|(left, right)| left == right).count();
    let up = std::iter::repeat_n("..", from.len() - shared - 1);
    up.chain(to[shared..].iter().copied()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_into_being_by_what_is_in_them() {
        let mut tree = Tree::default();
        tree.line("a/b/c".to_owned(), 1);
        tree.link("a/d".to_owned(), "a/b");
        tree.put("ab".to_owned(), Node::Directory);
        let names = |directory| tree.children(directory).map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!((names(""), names("a"), names("a/b")), (vec!["a", "ab"], vec!["b", "d"], vec!["c"]));
        assert_eq!(tree.node("a/b"), Some(&Node::Directory));
        assert_eq!(tree.node("a/d"), Some(&Node::Link("b".to_owned())));
    }

    #[test]
    fn what_is_hidden_is_hidden_whole() {
        let mut tree = Tree::default();
        tree.hidden.insert("a/drm".to_owned());
        for (path, expected) in [
            ("a/drm", true),
            ("a/drm/card0", true),
            ("a/drm2", false),
            ("bus/pci/drivers", false),
            ("bus/pci/drivers/nvidia", true),
            ("bus/pci/drivers_probe", false),
        ] {
            assert_eq!(tree.hides(path), expected, "{path}");
        }
    }
}
