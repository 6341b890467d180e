//! NVML, the one library that the agent itself loads.

use std::path::PathBuf;

use tessera_hook::{Architecture, FileKind};

use super::search::Search;
use super::{elf, libraries};
use crate::Root;

/// The name by which every driver version installs it.
pub(in crate::nvidia) const NVML: &str = "libnvidia-ml.so.1";

/// NVML below the driver's root, as the agent sees it: where its other libraries are found too.
///
/// The path is the versioned file's, not the link's: the dynamic loader takes a path that it has loaded before for the same
/// library, and would keep an old driver's after an upgrade.
pub(in crate::nvidia) fn find_nvml(driver_root: &Root) -> Option<PathBuf> {
    let mut search = Search::new(driver_root).ok()?;
    let directories = libraries::directories(&mut search);
    let found = directories.iter().filter_map(|directory| search.entry(directory, NVML));
    let found: Vec<_> = found.filter(|found| found.kind == FileKind::Regular).collect();
    let can_be_loaded = |path: &str| {
        search.open(path).and_then(elf::shared_object).is_some_and(|object| Some(object.architecture) == own())
    };
    // Where none can, the first is taken for what there is: why it cannot be loaded is worth telling.
    let chosen = found.iter().find(|found| can_be_loaded(&found.path)).or(found.first())?;
    Some(driver_root.seen_by_agent(&chosen.path))
}

/// That of this process; `None` where NVIDIA has no driver for it.
fn own() -> Option<Architecture> {
    match std::env::consts::ARCH {
        "x86_64" => Some(Architecture::X86_64),
        "aarch64" => Some(Architecture::Aarch64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tessera_hook::Architecture::I386;

    use super::super::testing::{Tree, VERSION};
    use super::*;

    fn found(tree: &Tree) -> Option<String> {
        let path = find_nvml(&tree.driver())?;
        let root = tree.driver().seen_by_agent("/");
        Some(format!("/{}", path.strip_prefix(root).unwrap().display()))
    }

    #[test]
    fn it_is_found_where_the_other_libraries_are() {
        let own = own().unwrap();
        let file = format!("libnvidia-ml.so.{VERSION}");
        for at in ["/", "/run/nvidia/driver"] {
            for directory in ["/usr/lib64", "/usr/lib/x86_64-linux-gnu/nvidia/current", "/lib64", "/usr/lib"] {
                let tree = Tree::new(at);
                tree.libraries(directory, own, &[NVML]);
                assert_eq!(found(&tree), Some(format!("{directory}/{file}")), "{at}");
            }
            // Where only the loader's cache knows of it, by a link that is absolute for who lives in that root.
            let tree = Tree::new(at);
            tree.libraries("/opt/driver", own, &[NVML])
                .link("/opt/libnvidia-ml.so.1", &format!("/opt/driver/{file}"))
                .cache(&[(NVML, "/opt/libnvidia-ml.so.1")]);
            assert_eq!(found(&tree), Some(format!("/opt/driver/{file}")), "{at}");
            assert_eq!(found(&Tree::new(at)), None);
        }
    }

    #[test]
    fn that_of_another_architecture_is_taken_last() {
        let tree = Tree::new("/");
        tree.libraries("/usr/lib64", I386, &[NVML]);
        assert_eq!(found(&tree), Some(format!("/usr/lib64/libnvidia-ml.so.{VERSION}")));
        tree.libraries("/usr/lib", own().unwrap(), &[NVML]);
        assert_eq!(found(&tree), Some(format!("/usr/lib/libnvidia-ml.so.{VERSION}")));
        let damaged = Tree::new("/");
        damaged.file("/usr/lib64/libnvidia-ml.so.1");
        assert_eq!(found(&damaged), Some("/usr/lib64/libnvidia-ml.so.1".to_owned()));
    }

    #[test]
    fn it_is_never_that_of_the_agents_own_root() {
        let tree = Tree::new("/run/nvidia/driver");
        tree.node_file("/usr/lib64/libnvidia-ml.so.1", "the node's").file("/etc/os-release");
        tree.link("/usr/lib64/libnvidia-ml.so.1", "../../../../../usr/lib64/libnvidia-ml.so.1");
        assert_eq!(found(&tree), None);
    }
}
