//! Which VFIO driver a function needs, by `modules.alias`, and whether it is loaded.

use std::fs;

use super::KernelDriver;
use crate::Root;

/// The driver that hands a function to user space: `vfio-pci`, or one made for the device, which knows how to migrate
/// it or where its memory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VfioDriver {
    /// The module that has it: `vfio_pci`.
    pub module: String,
    /// The driver of the module; `None` while the module is not loaded.
    pub driver: Option<KernelDriver>,
}

impl VfioDriver {
    /// Whether it was made for the device.
    pub fn is_variant(&self) -> bool {
        self.module != GENERIC
    }
}

/// The module of the driver that takes every PCI function.
const GENERIC: &str = "vfio_pci";

/// The module with the most specific alias for a function that says of itself `modalias`, as libvirt chooses it
/// (`virPCIDeviceFindBestVFIOVariant`). `None` where the kernel has no VFIO for PCI.
pub(super) fn vfio_driver(root: &Root, modalias: &str) -> Option<VfioDriver> {
    let release = fs::read_to_string(root.seen_by_agent("/proc/sys/kernel/osrelease")).unwrap_or_default();
    let aliases = root.seen_by_agent(&format!("/lib/modules/{}/modules.alias", release.trim()));
    let aliases = fs::read_to_string(aliases).unwrap_or_default();
    let module = best(&aliases, modalias).map(str::to_owned).or_else(|| {
        // Built into the kernel, or without the files that say so.
        root.seen_by_agent("/sys/bus/pci/drivers/vfio-pci").exists().then(|| GENERIC.to_owned())
    })?;
    let driver = loaded(root, &module);
    Some(VfioDriver { module, driver })
}

/// The name that a loaded module's PCI driver has on the bus.
fn loaded(root: &Root, module: &str) -> Option<KernelDriver> {
    let drivers = fs::read_dir(root.seen_by_agent(&format!("/sys/module/{module}/drivers")));
    let mut names = drivers.into_iter().flatten().flatten().map(|entry| entry.file_name());
    let named = names.find_map(|name| name.to_str()?.strip_prefix("pci:")?.parse().ok());
    named.or_else(|| {
        // A built-in driver has no such link in old kernels.
        let name = module.replace('_', "-");
        root.seen_by_agent(&format!("/sys/bus/pci/drivers/{name}")).exists().then(|| name.parse().ok()).flatten()
    })
}

fn best<'a>(aliases: &'a str, modalias: &str) -> Option<&'a str> {
    let function = fields(modalias.strip_prefix("pci:")?)?;
    let matching = aliases.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let pattern = words.find(|word| *word != "alias")?.strip_prefix("vfio_pci:")?;
        let module = words.next()?;
        let pattern = fields(pattern)?;
        let matches = pattern.iter().zip(&function).all(|(wanted, is)| *wanted == "*" || wanted == is);
        matches.then(|| (pattern.iter().filter(|field| **field == "*").count(), module))
    });
    matching.min_by_key(|(wildcards, _)| *wildcards).map(|(_, module)| module)
}

/// The seven fields of `v<vendor>d<device>sv<…>sd<…>bc<class>sc<…>i<…>`.
fn fields(text: &str) -> Option<[&str; 7]> {
    // No mark can be taken for a digit: the digits of an alias are upper case.
    let marks = ["v", "d", "sv", "sd", "bc", "sc", "i"];
    let mut rest = text;
    let mut fields = [""; 7];
    for (index, mark) in marks.iter().enumerate() {
        rest = rest.strip_prefix(mark)?;
        let end = marks.get(index + 1).map_or(Some(rest.len()), |next| rest.find(next))?;
        (fields[index], rest) = rest.split_at(end);
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALIASES: &str = "\
# Aliases extracted from modules themselves.
alias pci:v000010DEd*sv*sd*bc03sc*i* nvidia
alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci
alias vfio_pci:v000010DEd00002342sv*sd*bc*sc*i* nvgrace_gpu_vfio_pci
alias vfio_pci:v00008086d0000E211sv*sd*bc03sc*i* xe_vfio_pci
";

    #[test]
    fn the_most_specific_alias_wins() {
        for (modalias, expected) in [
            ("pci:v000010DEd00002330sv000010DEsd000016C1bc03sc02i00", Some("vfio_pci")),
            ("pci:v000010DEd00002342sv000010DEsd000016EBbc03sc02i00", Some("nvgrace_gpu_vfio_pci")),
            ("pci:v00008086d0000E211sv00008086sd00001111bc03sc00i00", Some("xe_vfio_pci")),
            ("pci:v00008086d0000E211sv00008086sd00001111bc04sc00i00", Some("vfio_pci")),
            ("usb:v1", None),
            ("pci:v000010DE", None),
        ] {
            assert_eq!(best(ALIASES, modalias), expected, "{modalias}");
        }
        assert_eq!(best("alias pci:v*d*sv*sd*bc*sc*i* x", "pci:v1d1sv1sd1bc1sc1i1"), None);
    }

    #[test]
    fn a_driver_need_not_be_called_as_its_module() {
        let tree = tempfile::tempdir().unwrap();
        let root = Root::new(tree.path(), "/");
        let put = |path: &str, text: &str| {
            let path = tree.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let modalias = "pci:v000010DEd00002342sv000010DEsd000016EBbc03sc02i00";
        assert_eq!(vfio_driver(&root, modalias), None);
        put("proc/sys/kernel/osrelease", "6.8.0\n");
        put("lib/modules/6.8.0/modules.alias", ALIASES);
        let found = vfio_driver(&root, modalias).unwrap();
        assert!(found.is_variant() && found.driver.is_none(), "{found:?}");
        put("sys/module/nvgrace_gpu_vfio_pci/drivers/pci:nvgrace-gpu-vfio-pci", "");
        let found = vfio_driver(&root, modalias).unwrap();
        assert_eq!(found.driver, Some("nvgrace-gpu-vfio-pci".parse().unwrap()));
    }
}
