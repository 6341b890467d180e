use tessera_hook::Architecture::X86_64;

use super::*;
use crate::nvidia::driver_files::testing::{Tree, VERSION};
use crate::nvidia::remembered::MOMENT;

const CUDA: &str = "/usr/lib64/libcuda.so.580.65.06";

fn tree() -> Tree {
    let tree = Tree::new("/");
    tree.libraries("/usr/lib64", X86_64, &["libcuda.so.1", "libnvidia-ml.so.1"]).file("/usr/bin/nvidia-smi").aged();
    tree
}

fn installation(tree: &Tree) -> Installation {
    Installation::new(tree.driver(), LoaderCache::None)
}

fn mounted(installation: &Installation, tree: &Tree) -> Vec<String> {
    installation.edits(&tree.node()).mounts.into_iter().map(|mount| mount.host_path).collect()
}

#[test]
fn what_was_found_is_used_again() {
    let tree = tree();
    let installation = installation(&tree);
    let before = mounted(&installation, &tree);
    // A change that nothing shows is not seen: so nothing was searched.
    tree.library(CUDA, X86_64, "libcuda.so.2").aged();
    assert_eq!(mounted(&installation, &tree), before);
    let names = |installation: &Installation| {
        let mounts = installation.edits(&tree.node()).mounts;
        mounts.into_iter().any(|mount| mount.container_path.ends_with("/libcuda.so.2"))
    };
    assert!(!names(&installation) && names(&super::Installation::new(tree.driver(), LoaderCache::None)));
}

#[test]
fn every_change_is_seen() {
    type Change = fn(&Tree);
    let changes: &[(&str, Change, &str, bool)] = &[
        ("a program comes", |tree| _ = tree.file("/usr/bin/nvidia-debugdump"), "/usr/bin/nvidia-debugdump", true),
        ("a program goes", |tree| _ = tree.remove("/usr/bin/nvidia-smi"), "/usr/bin/nvidia-smi", false),
        (
            "a daemon starts",
            |tree| _ = tree.socket("/run/nvidia-persistenced/socket"),
            "/run/nvidia-persistenced/socket",
            true,
        ),
        ("libraries go", |tree| _ = tree.remove(CUDA), "/usr/bin/nvidia-smi", false),
        ("another version is loaded", |tree| _ = tree.node_file("/sys/module/nvidia/version", "590.1\n"), CUDA, false),
        (
            "libraries come where none were looked for in vain",
            |tree| _ = tree.libraries("/usr/lib/i386-linux-gnu", tessera_hook::Architecture::I386, &["libcuda.so.1"]),
            "/usr/lib/i386-linux-gnu/libcuda.so.580.65.06",
            true,
        ),
    ];
    for (what, change, path, there) in changes {
        let tree = tree();
        let installation = installation(&tree);
        let before = mounted(&installation, &tree);
        assert_ne!(before.contains(&(*path).to_owned()), *there, "{what}");
        change(&tree);
        assert_eq!(mounted(&installation, &tree).contains(&(*path).to_owned()), *there, "{what}");
    }
}

#[test]
fn who_looked_ahead_does_not_look_again_for_a_moment() {
    let tree = tree();
    let installation = installation(&tree);
    installation.look_ahead(&tree.node());
    let looked = installation.state.lock().unwrap().remembered.as_ref().unwrap().held.unwrap();
    tree.remove("/usr/bin/nvidia-smi");
    let seen = mounted(&installation, &tree).contains(&"/usr/bin/nvidia-smi".to_owned());
    assert!(seen || looked.elapsed() >= MOMENT);
    std::thread::sleep(MOMENT);
    assert!(!mounted(&installation, &tree).contains(&"/usr/bin/nvidia-smi".to_owned()));
}

#[test]
fn a_driver_that_comes_late_or_in_halves_is_found_whole() {
    let tree = Tree::new("/run/nvidia/driver");
    let installation = installation(&tree);
    assert_eq!(installation.edits(&tree.node()), ContainerEdits::default());
    tree.libraries("/usr/lib64", X86_64, &["libnvidia-ml.so.1"]).aged();
    assert_eq!(installation.edits(&tree.node()), ContainerEdits::default());
    tree.libraries("/usr/lib64", X86_64, &["libcuda.so.1"]);
    let cuda = format!("/run/nvidia/driver/usr/lib64/libcuda.so.{VERSION}");
    assert!(mounted(&installation, &tree).contains(&cuda));
    // Just after a change nothing is kept: the next one might not show.
    assert!(installation.state.lock().unwrap().remembered.is_none());
    tree.aged();
    assert!(mounted(&installation, &tree).contains(&cuda));
    assert!(installation.state.lock().unwrap().remembered.is_some());
}
