use cdi::{Device, Directory, FileName, Spec};
use semver::Version;

use super::*;
use crate::nvidia::driver_files::testing::{Tree, ubuntu};
use crate::nvidia::remembered::MOMENT;
use crate::nvidia::{Installation, LoaderCache};
use crate::{Accelerator, Facts, Locality, Resources};

fn gpu() -> Accelerator {
    let gpu = Gpu {
        minor: 3,
        uuid: "GPU-0".to_owned(),
        product_name: "NVIDIA H100 80GB HBM3".to_owned(),
        brand: "Nvidia",
        architecture: "Hopper",
        cuda_compute_capability: Version::new(9, 0, 0),
        driver_version: None,
        driver_version_text: String::new(),
        cuda_driver_version: Version::new(13, 0, 0),
        memory_bytes: None,
        addressing_mode: None,
        pci_class: Some(0x03_0200),
        clique: None,
        virtual_gpu: crate::nvidia::VirtualGpu::No,
    };
    let address = "0000:3b:00.0".parse().unwrap();
    Accelerator {
        address,
        locality: Locality::default(),
        partitioning: None,
        passthrough: None,
        links: Default::default(),
        facts: Facts::NvidiaGpu(Box::new(gpu)),
    }
}

fn host(tree: &Tree, loader_cache: LoaderCache) -> Host {
    Host::new(tree.node()).with_nvidia_driver(tree.driver(), loader_cache)
}

fn hook() -> LoaderCache {
    LoaderCache::Hook { path: "/var/lib/kubelet/plugins/gpu.nvidia.com/tessera-hook".into() }
}

/// With device nodes, those for rendering among them.
fn machine() -> Tree {
    let tree = ubuntu();
    for node in ["nvidia3", "nvidiactl", "nvidia-uvm", "dri/card1", "dri/renderD129"] {
        tree.node_file(&format!("/dev/{node}"), "");
    }
    for name in ["card1", "renderD129", "controlD65"] {
        tree.node_file(&format!("/sys/bus/pci/devices/0000:3b:00.0/drm/{name}/dev"), "");
    }
    tree
}

/// The spec as it is written, which the oracles in hack/ judge too.
fn spec(host: &Host) -> Spec {
    let kind: cdi::Kind = "k8s.gpu.nvidia.com/claim".parse().unwrap();
    let edits = gpu().container_edits(host).unwrap();
    let spec = Spec::new(kind.clone(), vec![Device::new("uid-gpu-0".parse().unwrap(), edits)]);
    let directory = tempfile::tempdir().unwrap();
    let name = FileName::transient(&kind, "uid").unwrap();
    Directory::open(directory.path()).unwrap().write(&name, &spec).unwrap();
    if let Some(target) = std::env::var_os("TESSERA_CDI_COLLECT") {
        static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        std::fs::create_dir_all(&target).unwrap();
        let unique = format!("{}-driver-{number}-{name}", std::process::id());
        std::fs::copy(directory.path().join(name.as_str()), std::path::Path::new(&target).join(unique)).unwrap();
    }
    spec
}

#[test]
fn with_a_hook() {
    insta::assert_json_snapshot!(spec(&host(&machine(), hook())));
}

#[test]
fn without_a_hook() {
    insta::assert_json_snapshot!(spec(&host(&machine(), LoaderCache::None)));
}

#[test]
fn a_partition_gets_the_nodes_for_rendering_only_with_graphics() {
    let tree = machine();
    let capability = |path: &str, minor: u32| {
        let path = format!("/proc/driver/nvidia/capabilities/gpu3/mig/{path}/access");
        tree.node_file(&path, &format!("DeviceFileMinor: {minor}\nDeviceFileMode: 292\nDeviceFileModify: 1\n"));
        tree.node_file(&format!("/dev/nvidia-caps/nvidia-cap{minor}"), "");
    };
    capability("gi2", 21);
    capability("gi2/ci0", 22);
    let made = Made { gpu_instance: 2, compute_instance: 0, uuid: "MIG-0".to_owned() };
    for (name, graphics) in
        [("1g.24gb", false), ("1g.24gb+me", false), ("1g.24gb+gfx", true), ("2g.48gb+me.all", false)]
    {
        let shape =
            Shape { id: 0, name: name.to_owned(), placements: Vec::new(), at_most: 1, resources: Resources::default() };
        let edits = gpu().partition_edits(&shape, &made, &host(&tree, hook())).unwrap();
        let nodes: Vec<_> = edits.device_nodes.iter().map(|node| node.path.as_str()).collect();
        let mut expected = vec!["/dev/nvidia3", "/dev/nvidiactl", "/dev/nvidia-uvm"];
        expected.extend(["/dev/dri/card1", "/dev/dri/renderD129"].iter().filter(|_| graphics));
        expected.extend(["/dev/nvidia-caps/nvidia-cap21", "/dev/nvidia-caps/nvidia-cap22"]);
        assert_eq!(nodes, expected, "{name}");
    }
}

#[test]
fn nodes_that_only_the_drivers_container_has() {
    let tree = Tree::new("/run/nvidia/driver");
    tree.file("/dev/nvidia3").file("/dev/nvidiactl").node_file("/dev/nvidia-uvm", "");
    let edits = gpu().container_edits(&host(&tree, hook())).unwrap();
    let nodes: Vec<_> = edits.device_nodes.iter().map(|node| (node.path.as_str(), node.host_path.as_deref())).collect();
    let driver = "/run/nvidia/driver";
    let [own, control] = ["nvidia3", "nvidiactl"].map(|name| format!("{driver}/dev/{name}"));
    assert_eq!(
        nodes,
        [("/dev/nvidia3", Some(own.as_str())), ("/dev/nvidiactl", Some(control.as_str())), ("/dev/nvidia-uvm", None)]
    );
}

#[test]
fn a_node_without_driver_files_hands_out_what_it_has() {
    let tree = Tree::new("/");
    tree.node_file("/dev/nvidia3", "");
    let edits = gpu().container_edits(&host(&tree, hook())).unwrap();
    let without = gpu().container_edits(&Host::new(tree.node())).unwrap();
    assert_eq!(edits, without);
    assert_eq!((edits.mounts.len(), edits.hooks.len(), edits.env.len()), (0, 0, 1));
}

#[test]
fn the_hook_is_told_what_it_understands() {
    use clap::Parser;
    let tree = machine();
    let edits = Installation::new(tree.driver(), hook()).edits(&tree.node());
    let arguments = tessera_hook::Arguments::try_parse_from(&edits.hooks[0].args).unwrap();
    assert_eq!(arguments.to_args(), edits.hooks[0].args);
    // Every library that the loader is to find is mounted where the hook is told that it is.
    let mounted = |path: &String| edits.mounts.iter().any(|mount| mount.container_path == *path);
    assert!(arguments.libraries.iter().all(|library| mounted(&library.path)));
}

#[test]
fn a_node_that_comes_or_goes_is_seen_after_a_moment() {
    let tree = machine();
    tree.aged();
    let host = host(&tree, LoaderCache::None);
    let has = |path: &str| {
        std::thread::sleep(MOMENT);
        let edits = gpu().container_edits(&host).unwrap();
        edits.device_nodes.iter().any(|node| node.path == path)
    };
    for (node, there) in [("/dev/nvidia-uvm", true), ("/dev/dri/renderD129", true), ("/dev/nvidia-modeset", false)] {
        assert_eq!((has(node), has(node)), (there, there), "{node}");
    }
    tree.remove("/dev/nvidia-uvm");
    tree.remove("/dev/dri/renderD129");
    tree.node_file("/dev/nvidia-modeset", "");
    for (node, there) in [("/dev/nvidia-uvm", false), ("/dev/dri/renderD129", false), ("/dev/nvidia-modeset", true)] {
        assert_eq!(has(node), there, "{node}");
    }
    tree.aged();
    assert!(has("/dev/nvidia-modeset") && has("/dev/nvidia3"));
}
