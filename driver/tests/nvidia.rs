//! NVIDIA's backend against the simulated library and sysfs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use simulated_hardware::{Machine, Profile};
use tempfile::TempDir;
use tessera_driver::nvidia::Session;
use tessera_driver::{
    Accelerator, AttributeValue, Backend, DiscoveryError, Host, Root, nvidia::LoaderCache, nvidia::Nvidia,
};
use tessera_vocabulary::attributes::{nvidia, standard};

struct Node {
    directory: TempDir,
    machine: Machine,
}

impl Node {
    fn new(profile: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let library = simulated_hardware::library().unwrap();
        let machine = Machine::create(directory.path(), &Profile::named(profile).unwrap(), &library).unwrap();
        Self { directory, machine }
    }

    fn root(&self) -> Root {
        Root::new(self.directory.path(), "/")
    }

    fn host(&self) -> Host {
        Host::new(self.root())
    }

    fn backend(&self) -> Nvidia {
        Nvidia::new(self.root(), Session::new(self.root()))
    }

    fn run(&self, command: &str) {
        let words: Vec<_> = command.split(' ').collect();
        self.machine.run(&words).unwrap();
    }
}

fn string(accelerator: &Accelerator, name: &str) -> String {
    match accelerator.attributes().remove(name) {
        Some(AttributeValue::String(text)) => text,
        Some(AttributeValue::Version(version)) => version.to_string(),
        other => panic!("{name} is {other:?}"),
    }
}

#[test]
fn eight_h100() {
    let node = Node::new("dgx-h100");
    let found = node.backend().discover().unwrap();
    assert_eq!((found.accelerators.len(), found.on_the_bus.len(), found.problems.len()), (8, 8, 0));
    assert!(found.accelerators.is_sorted_by_key(|accelerator| accelerator.address));
    for accelerator in &found.accelerators {
        assert_eq!(string(accelerator, nvidia::PRODUCT_NAME), "NVIDIA H100 80GB HBM3");
        assert_eq!(string(accelerator, nvidia::ARCHITECTURE), "Hopper");
        assert_eq!(string(accelerator, nvidia::CUDA_COMPUTE_CAPABILITY), "9.0.0");
        assert!(string(accelerator, standard::PCIE_ROOT).starts_with("pci0000:"));
        assert!(accelerator.locality.numa_node.is_some());
        assert_eq!(accelerator.capacities()["memory"], 81559 << 20);
    }
}

#[test]
fn a_vendor_is_present_by_its_bus_or_its_driver() {
    let empty = tempfile::tempdir().unwrap();
    let present = |root: &Root| Nvidia::new(root.clone(), Session::new(root.clone())).is_present();
    assert!(!present(&Root::new(empty.path(), "/")));
    let node = Node::new("dgx-h100");
    assert!(present(&node.root()));
    (0..8).for_each(|gpu| node.run(&format!("set {gpu} present=false")));
    assert!(present(&node.root()), "its driver is installed");
    let (bus, driver) = (Node::new("dgx-h100"), Root::new(empty.path(), "/"));
    assert!(Nvidia::new(bus.root(), Session::new(driver)).is_present(), "its driver may still be installed");
}

#[test]
fn every_profile_has_every_attribute_on_every_device_of_a_model() {
    for profile in Profile::names_with_gpus() {
        let found = Node::new(profile).backend().discover().unwrap();
        assert!(!found.accelerators.is_empty(), "{profile}");
        assert_eq!(found.problems, Vec::<String>::new(), "{profile}");
        let names = |accelerator: &Accelerator| accelerator.attributes().into_keys().collect::<Vec<_>>();
        // A claim whose CEL names an attribute that one device lacks is scheduled nowhere.
        assert!(found.accelerators.iter().all(|one| names(one) == names(&found.accelerators[0])), "{profile}");
    }
}

#[test]
fn a_container_is_given_the_nodes_of_its_gpu_and_no_right_to_make_others() {
    let node = Node::new("dgx-h100");
    let found = node.backend().discover().unwrap();
    let edits = found.accelerators[0].container_edits(&node.host()).unwrap();
    assert_eq!(edits.env, ["NVIDIA_VISIBLE_DEVICES=void"]);
    let paths: Vec<_> = edits.device_nodes.iter().map(|node| node.path.as_str()).collect();
    assert!(paths.contains(&"/dev/nvidiactl") && paths.contains(&"/dev/nvidia-uvm"), "{paths:?}");
    assert!(
        edits.device_nodes.iter().all(|node| node.permissions.as_deref() == Some("rw") && node.host_path.is_none())
    );

    std::fs::remove_file(node.directory.path().join(&paths[0][1..])).unwrap();
    let missing = found.accelerators[0].container_edits(&node.host()).unwrap_err();
    assert!(missing.to_string().contains("does not exist; load the driver"), "{missing}");
}

#[test]
fn the_container_runtime_may_see_the_node_elsewhere() {
    let node = Node::new("dgx-h100");
    let root = Root::new(node.directory.path(), "/run/node");
    let found = Nvidia::new(root.clone(), Session::new(root.clone())).discover().unwrap();
    let edits = found.accelerators[0].container_edits(&Host::new(root)).unwrap();
    assert!(edits.device_nodes.iter().all(|node| node.host_path == Some(format!("/run/node{}", node.path))));
}

/// The simulated driver has no library for CUDA, so none of its files is handed out.
#[test]
fn a_driver_of_which_only_nvml_is_installed_hands_out_nodes_alone() {
    let node = Node::new("dgx-h100");
    let found = node.backend().discover().unwrap();
    let hook = LoaderCache::Hook { path: "/opt/tessera-hook".into() };
    let host = node.host().with_nvidia_driver(node.root(), hook);
    for accelerator in &found.accelerators {
        assert_eq!(accelerator.container_edits(&host).ok(), accelerator.container_edits(&node.host()).ok());
    }
}

#[test]
fn one_lost_gpu_hides_no_other() {
    let node = Node::new("dgx-h100");
    let mut backend = node.backend();
    assert_eq!(backend.discover().unwrap().accelerators.len(), 8);
    node.run("set 3 lost=true");
    let found = backend.discover().unwrap();
    assert_eq!((found.accelerators.len(), found.on_the_bus.len(), found.problems.len()), (7, 8, 1));
    node.run("set 3 lost=false");
    assert_eq!(backend.discover().unwrap().accelerators.len(), 8);
}

#[test]
fn a_gpu_comes_and_goes() {
    let node = Node::new("dgx-h100");
    let mut backend = node.backend();
    backend.discover().unwrap();
    node.run("set 3 present=false");
    let found = backend.discover().unwrap();
    assert_eq!((found.accelerators.len(), found.on_the_bus.len()), (7, 7));
    node.run("set 3 present=true");
    assert_eq!(backend.discover().unwrap().accelerators.len(), 8);
}

#[test]
fn names_follow_the_address_and_not_the_minor() {
    let node = Node::new("dgx-h100");
    let before = node.backend().discover().unwrap().accelerators[0].clone();
    node.run("set 0 minor=31");
    let after = node.backend().discover().unwrap().accelerators[0].clone();
    assert_eq!(before.name(), after.name());
    let edits = after.container_edits(&node.host()).unwrap();
    assert_eq!(edits.device_nodes[0].path, "/dev/nvidia31");
}

#[test]
fn a_driver_that_comes_later_is_found() {
    let node = Node::new("dgx-h100");
    let library = node.machine.library();
    let aside = library.with_extension("aside");
    std::fs::rename(&library, &aside).unwrap();
    let mut backend = node.backend();
    assert!(matches!(backend.discover(), Err(DiscoveryError::NoDriver { .. })));
    std::fs::rename(&aside, &library).unwrap();
    assert_eq!(backend.discover().unwrap().accelerators.len(), 8);
}

#[test]
fn an_unusable_library_is_told_and_not_crashed_on() {
    let node = Node::new("dgx-h100");
    let text = |backend: &mut Nvidia| backend.discover().unwrap_err().to_string();

    node.run("set fail=nvmlInitWithFlags:DRIVER_NOT_LOADED");
    assert!(text(&mut node.backend()).contains("load the kernel module nvidia"), "{}", text(&mut node.backend()));

    let node = Node::new("dgx-h100");
    let library = node.machine.library();
    std::fs::remove_file(&library).unwrap();
    std::fs::write(&library, "no library").unwrap();
    let error = text(&mut node.backend());
    assert!(error.contains("cannot be loaded") && error.contains(std::env::consts::ARCH), "{error}");
}
