use tessera_hook::Architecture::{Aarch64, ArmHardFloat, I386, X86_64};

use super::testing::{COMPUTE, Tree, VERSION, shared_object, ubuntu};
use super::*;

fn found(tree: &Tree) -> Result<DriverFiles, String> {
    let (node, driver) = (tree.node(), tree.driver());
    let (found, _) = find(&node, &driver, loaded(&node).as_deref());
    found.map_err(|problem| problem.to_string().replace(&driver.seen_by_agent("/").display().to_string(), "ROOT/"))
}

fn text(file: &File) -> String {
    if file.inside == file.on_host { file.inside.clone() } else { format!("{} <- {}", file.inside, file.on_host) }
}

/// One line a file, for goldens.
fn listing(files: &DriverFiles) -> String {
    let library = |one: &Library| format!("{} {} as {}", one.architecture, text(&one.file), one.names.join(", "));
    let mut lines = vec![format!("version {}", files.version)];
    lines.extend(files.libraries.iter().map(library));
    lines.extend(files.files.iter().map(text));
    lines.extend(files.sockets.iter().map(|socket| format!("socket {}", text(socket))));
    lines.extend(files.links.iter().map(|one| format!("link {} ({})", one.link, one.on_host)));
    lines.join("\n")
}

#[test]
fn on_ubuntu() {
    insta::assert_snapshot!(listing(&found(&ubuntu()).unwrap()));
}

#[test]
fn on_red_hat_in_lib64_without_a_cache() {
    let tree = Tree::new("/");
    tree.libraries("/usr/lib64", X86_64, COMPUTE)
        .libraries("/usr/lib", I386, &["libcuda.so.1"])
        .link("/lib64", "usr/lib64")
        .link("/usr/bin/nvidia-smi", "/usr/lib64/nvidia/bin/nvidia-smi")
        .file("/usr/lib64/nvidia/bin/nvidia-smi")
        .node_file("/proc/sys/kernel/osrelease", "5.14.0-570.el9.x86_64\n")
        .file("/lib/firmware/nvidia/580.65.06/gsp_tu10x.bin")
        .file("/lib/firmware/5.14.0-570.el9.x86_64/nvidia/580.65.06/gsp_tu10x.bin");
    insta::assert_snapshot!(listing(&found(&tree).unwrap()));
}

#[test]
fn in_a_driver_container() {
    let tree = Tree::new("/run/nvidia/driver");
    // Debian's alternatives: absolute links, which lead out for everyone who does not live in this root.
    let current = "/usr/lib/x86_64-linux-gnu/nvidia/current";
    tree.libraries(current, X86_64, &["libcuda.so.1", "libnvidia-ml.so.1"])
        .libraries("/usr/lib/x86_64-linux-gnu", X86_64, &["libnvidia-glcore.so.580.65.06"])
        .link("/usr/lib/x86_64-linux-gnu/libcuda.so.1", "/etc/alternatives/glx--libcuda.so.1-x86_64-linux-gnu")
        .link("/etc/alternatives/glx--libcuda.so.1-x86_64-linux-gnu", &format!("{current}/libcuda.so.1"))
        .cache(&[("libcuda.so.1", "/usr/lib/x86_64-linux-gnu/libcuda.so.1")])
        .link("/usr/bin/nvidia-smi", "/etc/alternatives/nvidia--nvidia-smi")
        .link("/etc/alternatives/nvidia--nvidia-smi", "/usr/lib/nvidia/current/nvidia-smi")
        .file("/usr/lib/nvidia/current/nvidia-smi")
        .node_file("/sys/module/firmware_class/parameters/path", "/run/nvidia/driver/opt/firmware\n")
        .file("/opt/firmware/nvidia/580.65.06/gsp_ga10x.bin")
        .socket("/run/nvidia-fabricmanager/socket");
    insta::assert_snapshot!(listing(&found(&tree).unwrap()));
}

#[test]
fn in_a_directory_of_gke() {
    let tree = Tree::new("/home/kubernetes/bin/nvidia");
    tree.libraries("/lib64", X86_64, COMPUTE).file("/bin/nvidia-smi").file("/etc/vulkan/icd.d/nvidia_icd.json");
    insta::assert_snapshot!(listing(&found(&tree).unwrap()));
}

#[test]
fn a_link_leads_nowhere_outside_of_the_root() {
    let tree = Tree::new("/run/nvidia/driver");
    tree.libraries("/usr/lib64", X86_64, &["libcuda.so.1"])
        .node_file("/secret", "not the driver's")
        .link(&format!("/usr/lib64/libnvidia-up.so.{VERSION}"), "../../../../../secret")
        .link(&format!("/usr/lib64/libnvidia-circle.so.{VERSION}"), &format!("libnvidia-circle.so.{VERSION}"))
        .link("/usr/bin/nvidia-smi", "../../../../../secret")
        .link("/tmp/nvidia-mps", "/usr/lib64")
        .link("/usr/lib64/vdpau", "..");
    let files = found(&tree).unwrap();
    assert_eq!(files.libraries.len(), 1);
    assert_eq!((files.files, files.sockets), (vec![], vec![]));
}

#[test]
fn what_is_not_installed_is_told() {
    let nothing = Tree::new("/");
    nothing.file("/usr/bin/nvidia-smi");
    let half = Tree::new("/");
    half.libraries("/usr/lib64", X86_64, &["libnvidia-ml.so.1"]);
    let other = Tree::new("/run/nvidia/driver");
    other.library("/usr/lib64/libcuda.so.550.54.14", X86_64, "libcuda.so.1");
    let damaged = Tree::new("/");
    damaged.file(&format!("/usr/lib64/libcuda.so.{VERSION}"));
    let no_root = Tree::new("/run/nvidia/driver");
    for (tree, expected) in [
        (nothing, "no libcuda.so.580.65.06 below ROOT/, by its /etc/ld.so.cache or in /usr/lib64, /usr/lib/x86_64"),
        (half, "no libcuda.so.580.65.06 below ROOT/, by its"),
        (damaged, "no libcuda.so.580.65.06 below ROOT/, by its"),
        (other, "the kernel module is 580.65.06, but /usr/lib64/libcuda.so.550.54.14 is what lies below ROOT/; reload"),
        (no_root, "the driver's root ROOT/: No such file or directory (os error 2); name the directory"),
    ] {
        let problem = found(&tree).unwrap_err();
        assert!(problem.starts_with(expected), "{problem}");
    }
}

#[test]
fn without_a_loaded_module_the_version_is_that_of_the_library() {
    let tree = Tree::new("/");
    tree.libraries("/usr/lib64", X86_64, &["libcuda.so.1"]).node_file("/sys/module/nvidia/version", "");
    assert_eq!(found(&tree).unwrap().version, VERSION);
}

#[test]
fn a_library_is_known_by_its_headers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("library");
    let read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        elf::shared_object(std::fs::File::open(&path).unwrap())
    };
    for architecture in [X86_64, I386, Aarch64, ArmHardFloat] {
        let bytes = shared_object(architecture, "libcuda.so.1");
        let expected = elf::SharedObject { architecture, soname: Some("libcuda.so.1".to_owned()) };
        assert_eq!(read(&bytes), Some(expected), "{architecture}");
        // Cut anywhere, it is another name or none, never a crash.
        for length in 0..bytes.len() - 1 {
            let cut = read(&bytes[..length]);
            assert!(cut.as_ref().is_none_or(|object| object.soname.is_none()), "{length} bytes: {cut:?}");
        }
    }
    assert_eq!(read(b"text"), None);
    assert!(elf::shared_object(std::fs::File::open(std::env::current_exe().unwrap()).unwrap()).is_some());
}
