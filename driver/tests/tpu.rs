//! Google's backend against simulated machines.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use simulated_hardware::{Machine, Profile, TpuGeneration};
use simulated_sysfs::{Mounted, Setup};
use tempfile::TempDir;
use tessera_driver::topology::groups;
use tessera_driver::tpu::{Chip, NodeLabels, Reach, Settings, Tpu};
use tessera_driver::{Accelerator, AttributeValue, Backend, Discovery, Facts, Host, Root};
use tessera_vocabulary::attributes::{google, portable, standard};
use tessera_vocabulary::capacities;

struct Node {
    directory: TempDir,
    machine: Machine,
    labels: NodeLabels,
}

impl Node {
    fn new(profile: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let library = simulated_hardware::library().unwrap();
        let machine = Machine::create(directory.path(), &Profile::named(profile).unwrap(), &library).unwrap();
        Self { directory, machine, labels: NodeLabels::default() }
    }

    fn root(&self) -> Root {
        Root::new(self.directory.path(), "/")
    }

    fn backend(&self) -> Tpu {
        let settings = Settings { node: "node-1".to_owned(), ..Settings::default() };
        Tpu::new(self.root(), settings, self.labels.clone())
    }

    fn discover(&self) -> Discovery {
        self.backend().discover().unwrap()
    }

    fn run(&self, command: &str) {
        let words: Vec<_> = command.split(' ').collect();
        self.machine.run(&words).unwrap();
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.directory.path().join(path)).unwrap();
    }
}

fn chip(accelerator: &Accelerator) -> &Chip {
    match &accelerator.facts {
        Facts::Tpu(chip) => chip,
        other => panic!("{other:?}"),
    }
}

fn text(accelerator: &Accelerator, name: &str) -> Option<String> {
    Some(match accelerator.attributes().remove(name)? {
        AttributeValue::String(text) => text,
        AttributeValue::Int(number) => number.to_string(),
        AttributeValue::Bool(truth) => truth.to_string(),
        AttributeValue::Version(version) => version.to_string(),
    })
}

fn nodes(accelerator: &Accelerator, host: &Host) -> Vec<String> {
    let edits = accelerator.container_edits(host).unwrap();
    assert!(edits.device_nodes.iter().all(|node| node.permissions.as_deref() == Some("rw")));
    edits.device_nodes.into_iter().map(|node| node.path).collect()
}

#[test]
fn eight_chips_and_no_foreign_device() {
    let node = Node::new("tpu-v5e");
    let found = node.discover();
    assert_eq!((found.accelerators.len(), found.on_the_bus.len()), (8, 8));
    assert_eq!(found.problems, Vec::<String>::new());
    for (index, one) in (0..).zip(&found.accelerators) {
        assert_eq!((chip(one).index, chip(one).reach), (index, Reach::Vfio(index)));
        assert_eq!(nodes(one, &Host::new(node.root())), [format!("/dev/vfio/{index}"), "/dev/vfio/vfio".to_owned()]);
        assert_eq!(one.capacities()[capacities::MEMORY], 16 << 30);
        assert_eq!(one.locality.numa_node, Some(index / 4));
        for (name, value) in [
            (google::TPU_GEN, "v5e"),
            (google::TOPOLOGY, "2x4"),
            (google::SHAPE, "1x1"),
            (google::WHOLE_HOST, "false"),
            (google::CHIP_COUNT, "8"),
            (portable::MODEL, "Google TPU v5e"),
        ] {
            assert_eq!(text(one, name).as_deref(), Some(value), "{name}");
        }
    }
    let last = &found.accelerators[7];
    assert_eq!(last.name().as_str(), "tpu-0000-80-08-0");
    assert_eq!(text(last, google::COORDINATES).as_deref(), Some("1,3,0"));
    assert_eq!(text(last, standard::PCIE_ROOT).as_deref(), Some("pci0000:80"));
    let uuids: BTreeSet<_> = found.accelerators.iter().map(Accelerator::uuid).collect();
    assert_eq!(uuids.len(), 8, "Google's own driver gives all chips one");
}

#[test]
fn every_generation() {
    for (generation, word, gib, cores) in [
        (TpuGeneration::V2, "v2", 16, 2),
        (TpuGeneration::V3, "v3", 32, 2),
        (TpuGeneration::V4, "v4", 32, 2),
        (TpuGeneration::V5p, "v5p", 95, 2),
        (TpuGeneration::V5e, "v5e", 16, 1),
        (TpuGeneration::V6e, "v6e", 32, 1),
        (TpuGeneration::V7x, "v7x", 192, 2),
    ] {
        let node = Node::new("tpu-v4");
        node.machine.update(|hardware| hardware.tpus.iter_mut().for_each(|tpu| tpu.generation = generation)).unwrap();
        let found = node.discover();
        assert_eq!(found.accelerators.len(), 4, "{word}");
        for one in &found.accelerators {
            assert_eq!(text(one, google::TPU_GEN).as_deref(), Some(word));
            assert_eq!(one.capacities()[capacities::MEMORY], gib << 30, "{word}");
            assert_eq!(one.capacities()[capacities::TENSOR_CORES], cores, "{word}");
        }
    }
}

#[test]
fn a_driver_of_googles_with_and_without_the_kernels_class() {
    let node = Node::new("tpu-v4");
    let reaches = || node.discover().accelerators.iter().map(|one| chip(one).reach.number()).collect::<Vec<_>>();
    assert_eq!(reaches(), [0, 1, 2, 3]);
    // As after a reload of the driver: names stay, nodes follow the chips.
    let names = |node: &Node| node.discover().accelerators.iter().map(Accelerator::name).collect::<Vec<_>>();
    let before = names(&node);
    for command in ["set tpu0 number=99", "set tpu3 number=0", "set tpu0 number=3"] {
        node.run(command);
    }
    assert_eq!((reaches(), names(&node)), (vec![3, 1, 2, 0], before));
    assert_eq!(nodes(&node.discover().accelerators[0], &Host::new(node.root())), ["/dev/accel3"]);
    // A driver that does not say which node is whose numbers them as the chips are on the bus.
    (0..4).for_each(|position| node.run(&format!("set tpu{position} class=false")));
    assert_eq!(reaches(), [0, 1, 2, 3]);
    node.remove("dev/accel2");
    let found = node.discover();
    assert_eq!(
        (found.accelerators.len(), found.on_the_bus.len(), found.problems.len()),
        (0, 4, 4),
        "nobody knows whose"
    );
}

#[test]
fn what_cannot_be_used_is_told_and_hides_no_other() {
    for (what, change, problem) in [
        ("unbound", "set tpu3 driver=none", "TPU 0000:00:08.0: no driver has it; bind it to vfio-pci"),
        ("another driver", "set tpu3 driver=uio class=false", "TPU 0000:00:08.0: uio has it and makes no /dev/accel"),
    ] {
        let node = Node::new("tpu-v5e");
        let mut backend = node.backend();
        backend.discover().unwrap();
        node.run(change);
        if what == "another driver" {
            node.remove("dev/accel3");
        }
        let found = backend.discover().unwrap();
        assert_eq!((found.accelerators.len(), found.on_the_bus.len()), (7, 8), "{what}");
        assert!(found.problems[0].starts_with(problem), "{:?}", found.problems);
        node.run("set tpu3 driver=vfio-pci");
        assert_eq!(backend.discover().unwrap().problems, Vec::<String>::new());
    }
    let node = Node::new("tpu-v5e");
    node.remove("dev/vfio/5");
    let found = node.discover();
    assert_eq!(found.accelerators.len(), 7);
    assert!(found.problems[0].contains("dev/vfio/5 does not exist"), "{:?}", found.problems);
}

#[test]
fn a_group_that_is_shared_is_handed_to_nobody() {
    let node = Node::new("tpu-v5e");
    node.machine.update(|hardware| hardware.functions[2].group = Some(5)).unwrap();
    let found = node.discover();
    assert_eq!((found.accelerators.len(), found.on_the_bus.len()), (7, 8));
    assert!(found.problems[0].contains("its IOMMU group 5 is also that of 0000:00:0f.0"), "{:?}", found.problems);
}

#[test]
fn a_chip_that_is_gone_changes_no_other() {
    let node = Node::new("tpu-v5e");
    let mut backend = node.backend();
    let before = backend.discover().unwrap();
    node.run("set tpu3 present=false");
    let after = backend.discover().unwrap();
    assert_eq!((after.accelerators.len(), after.on_the_bus.len()), (7, 7));
    let others = before.accelerators.iter().filter(|one| chip(one).index != 3);
    assert!(after.accelerators.iter().eq(others), "{:#?}", after.accelerators);
    // An agent that starts then knows only that there are seven.
    let found = node.discover();
    assert_eq!(groups(&found.accelerators), []);
    assert_eq!(text(&found.accelerators[0], google::COORDINATES), None);
    assert!(found.problems[0].contains("7 TPU chips"), "{:?}", found.problems);
}

#[test]
fn groups_are_the_blocks_that_libtpu_can_use() {
    for (profile, expected) in [
        ("tpu-v5e", &["4 2x2 false: 4 5 6 7", "4 2x2 false: 0 1 2 3", "8 2x4 true: 0 1 2 3 4 5 6 7"][..]),
        ("tpu-v6e", &["4 2x2 false: 4 5 6 7", "4 2x2 false: 0 1 2 3", "8 2x4 true: 0 1 2 3 4 5 6 7"]),
        ("tpu-v4", &["2 1x2x1 false: 2 3", "2 1x2x1 false: 0 1", "4 2x2x1 true: 0 1 2 3"]),
        ("nvidia-tpu", &["2 1x2 false: 2 3", "2 1x2 false: 0 1", "4 2x2 true: 0 1 2 3"]),
        ("tpu-v5e-1", &[]),
    ] {
        let found = Node::new(profile).discover().accelerators;
        let line = |group: &tessera_driver::topology::Group| {
            let of = |name: &str| match &group.attributes()[name] {
                AttributeValue::String(text) => text.clone(),
                other => format!("{other:?}").trim_start_matches("Bool(").trim_end_matches(')').to_owned(),
            };
            let member = |one: &&Accelerator| group.members.contains(&one.address);
            let indexes: Vec<_> = found.iter().filter(member).map(|one| chip(one).index.to_string()).collect();
            assert_eq!(of(portable::GROUP_TIE), "mesh");
            assert_eq!(group.capacities()[capacities::ACCELERATORS], indexes.len() as u64);
            format!("{} {} {}: {}", indexes.len(), of(google::SHAPE), of(google::WHOLE_HOST), indexes.join(" "))
        };
        assert_eq!(groups(&found).iter().map(line).collect::<Vec<_>>(), expected, "{profile}");
    }
    let one = &Node::new("tpu-v5e-1").discover().accelerators[0];
    assert_eq!(text(one, google::WHOLE_HOST).as_deref(), Some("true"));
}

#[test]
fn labels_are_seen_at_the_next_look() {
    let node = Node::new("tpu-v6e");
    let mut backend = node.backend();
    let mut told = |name: &str| text(&backend.discover().unwrap().accelerators[0], name);
    let unknown = || Some(google::UNKNOWN.to_owned());
    assert_eq!((told(google::TOPOLOGY), told(google::ACCELERATOR)), (unknown(), unknown()));
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    node.labels.set(BTreeMap::from([
        label("cloud.google.com/gke-tpu-topology", "4x4"),
        label("cloud.google.com/gke-tpu-accelerator", "tpu-v6e-slice"),
    ]));
    assert_eq!(told(google::TOPOLOGY).as_deref(), Some("4x4"));
    assert_eq!(told(google::ACCELERATOR).as_deref(), Some("tpu-v6e-slice"));
}

#[test]
fn a_slice_that_has_a_name_and_several_hosts_spans_nodes() {
    let node = Node::new("tpu-v5e");
    let slice = |topology: &str, slice: Option<&str>| {
        let settings =
            Settings { slice: slice.map(str::to_owned), topology: topology.parse().ok(), ..Settings::default() };
        let found = Tpu::new(node.root(), settings, node.labels.clone()).discover().unwrap();
        found.accelerators[0].spanning_domain().map(|domain| (domain.name.0, domain.nodes))
    };
    let pod = || Some("pod-7");
    assert_eq!(slice("4x4", pod()), Some(("pod-7".to_owned(), Some(2))));
    for (topology, name) in [("4x4", None), ("2x4", pod()), ("", pod()), ("3x3", pod())] {
        assert_eq!(slice(topology, name), None, "{topology}");
    }
}

#[test]
fn a_node_without_tpus_has_none_and_no_trouble() {
    let node = Node::new("dgx-h100");
    assert_eq!(node.discover(), Discovery::default());
    // TPUs alone, and no driver of NVIDIA's: nothing of that is rendered.
    let node = Node::new("tpu-v5e");
    assert!(!node.machine.library().exists() && !node.directory.path().join("dev/nvidiactl").exists());
}

#[test]
fn another_vendors_nodes_are_nobodys() {
    let node = Node::new("tpu-v4");
    // Four chips whose driver makes no nodes, and four nodes of a driver that says whose they are.
    let class = node.directory.path().join("sys/class/accel");
    for position in 0..4 {
        node.run(&format!("set tpu{position} class=false"));
        fs::create_dir_all(class.join(format!("accel{position}"))).unwrap();
    }
    let found = node.discover();
    assert_eq!((found.accelerators.len(), found.problems.len()), (0, 4), "{:?}", found.accelerators);
}

#[test]
fn a_living_sysfs_shows_the_same() {
    for profile in ["tpu-v5e", "nvidia-tpu"] {
        let node = Node::new(profile);
        let before = node.discover();
        assert!(before.accelerators.len() >= 4);
        let _kernel = Mounted::boot(node.directory.path(), Setup::default()).unwrap();
        let found = node.discover();
        assert_eq!(found, before, "{profile}");
        let address = found.accelerators[1].address.to_string();
        fs::write(node.directory.path().join("sys/bus/pci/drivers/vfio-pci/unbind"), &address).unwrap();
        let found = node.discover();
        assert!(found.problems[0].contains("no driver has it"), "{:?}", found.problems);
        let set =
            |file: &str, text: &str| fs::write(node.directory.path().join("sys/bus/pci").join(file), text).unwrap();
        set(&format!("devices/{address}/driver_override"), "vfio-pci");
        set("drivers_probe", &address);
        assert_eq!(node.discover(), before, "{profile}");
    }
}

#[test]
fn what_vfio_maps_is_locked() {
    let hooks = |profile: &str, hook: bool| {
        let node = Node::new(profile);
        let host = Host::new(node.root());
        let host = if hook { host.with_hook("/opt/tessera-hook".into()) } else { host };
        node.discover().accelerators[0].container_edits(&host).unwrap().hooks
    };
    let [hook] = &hooks("tpu-v5e", true)[..] else { panic!("one hook") };
    assert_eq!((hook.hook_name, hook.path.as_str()), (cdi::HookName::CreateRuntime, "/opt/tessera-hook"));
    assert_eq!(hook.args, ["tessera-hook", "--lift-locked-memory"]);
    assert_eq!((hooks("tpu-v5e", false), hooks("tpu-v4", true)), (vec![], vec![]));
}
