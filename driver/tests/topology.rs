//! Topology of every simulated machine, read through NVML and sysfs.

#![allow(clippy::unwrap_used, reason = "a test may")]

use std::fmt::Write;

use cdi::ContainerEdits;
use simulated_hardware::{FabricState, Machine, Profile};
use tempfile::TempDir;
use tessera_driver::nvidia::{Nvidia, Session};
use tessera_driver::topology::{Fabric, GroupKind, groups, places};
use tessera_driver::{Accelerator, AttributeValue, Backend, Host, Root};
use tessera_vocabulary::attributes::{nvidia, portable, standard};
use tessera_vocabulary::{PciAddress, capacities};

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

    fn accelerators(&self) -> Vec<Accelerator> {
        let root = Root::new(self.directory.path(), "/");
        let found = Nvidia::new(root.clone(), Session::new(root)).discover().unwrap();
        assert_eq!(found.problems, Vec::<String>::new());
        found.accelerators
    }

    fn run(&self, command: &str) {
        self.machine.run(&command.split(' ').collect::<Vec<_>>()).unwrap();
    }
}

/// A GPU as people write it where there is one domain: `1b`, or `1:1b`.
fn short(address: &PciAddress) -> String {
    if address.domain == 0 {
        format!("{:02x}", address.bus)
    } else {
        format!("{:x}:{:02x}", address.domain, address.bus)
    }
}

fn listing(accelerators: &[Accelerator]) -> String {
    let mut text = String::new();
    for (address, place) in places(accelerators) {
        let (kind, domain, switch) = (place.fabric_kind, place.fabric_domain, place.pcie_switch);
        writeln!(text, "{}: {kind} {domain}, switch {switch}", short(&address)).unwrap();
    }
    for group in groups(accelerators) {
        let members: Vec<_> = group.members.iter().map(short).collect();
        writeln!(text, "{} {}", group.kind, members.join(" ")).unwrap();
    }
    text
}

#[test]
fn groups_of_every_machine() {
    for profile in Profile::names_with_gpus() {
        insta::assert_snapshot!(format!("groups_of_{profile}"), listing(&Node::new(profile).accelerators()));
    }
}

#[test]
fn devices_of_a_type_carry_the_same_attributes_and_short_ones() {
    for profile in Profile::names_with_gpus() {
        let accelerators = Node::new(profile).accelerators();
        let groups = groups(&accelerators);
        for group in &groups {
            // Only what the kernel knows may be missing, since no value would be true.
            let optional = [standard::NUMA_NODE, standard::PCIE_ROOT];
            let names = |of: &tessera_driver::topology::Group| {
                let names = of.attributes().keys().filter(|name| !optional.contains(name));
                names.chain(of.capacities().keys()).copied().collect::<Vec<_>>()
            };
            assert_eq!(names(group), names(&groups[0]), "{profile}");
            // The API's limit.
            assert!(group.attributes().len() + group.capacities().len() <= 32);
        }
        let places = places(&accelerators).into_values().flat_map(|place| place.attributes());
        for (name, value) in places.chain(groups.iter().flat_map(|group| group.attributes().clone())) {
            if let AttributeValue::String(text) = value {
                assert!(text.len() <= 64 && !text.is_empty(), "{profile}: {name} is {text:?}");
            }
        }
    }
}

#[test]
fn a_group_is_what_its_members_share_and_their_sum() {
    let accelerators = Node::new("dgx-h100").accelerators();
    let groups = groups(&accelerators);
    let (quad, octet) = (&groups[4], &groups[6]);
    assert_eq!(octet.capacities()[capacities::ACCELERATORS], 8);
    assert_eq!(octet.capacities()[capacities::MEMORY], 8 * (81559 << 20));
    let int = |number| Some(AttributeValue::Int(number));
    let text = |text: &str| Some(AttributeValue::from(text));
    for (attribute, of_quad, of_octet) in [
        (portable::GROUP_SIZE, int(4), int(8)),
        (portable::GROUP_TIE, text("fabric"), text("fabric")),
        (portable::MODEL, text("NVIDIA H100 80GB HBM3"), text("NVIDIA H100 80GB HBM3")),
        (portable::KIND, text("group"), text("group")),
        (portable::FABRIC_DOMAIN, text("nvswitch.0000:07:00.0"), text("nvswitch.0000:07:00.0")),
        (portable::PCIE_SWITCH, text(quad.name().as_str()), text(octet.name().as_str())),
        (nvidia::TYPE, text("group"), text("group")),
        (nvidia::UUID, None, None),
        (standard::PCI_BUS_ID, None, None),
        (standard::NUMA_NODE, int(1), None),
    ] {
        assert_eq!(quad.attributes().get(attribute), of_quad.as_ref(), "{attribute}");
        assert_eq!(octet.attributes().get(attribute), of_octet.as_ref(), "{attribute}");
    }
}

#[test]
fn a_fabric_that_is_not_there_yet_ties_nobody() {
    let node = Node::new("dgx-h100");
    let whole = listing(&node.accelerators());
    let state = |state| {
        node.machine.update(|hardware| {
            let fabrics = hardware.gpus.iter_mut().filter_map(|gpu| gpu.fabric.as_mut());
            fabrics.for_each(|fabric| fabric.state = state);
        })
    };
    state(FabricState::InProgress).unwrap();
    let accelerators = node.accelerators();
    assert!(accelerators.iter().all(|one| one.links.fabric == Fabric::Forming));
    assert!(groups(&accelerators).iter().all(|group| group.kind == GroupKind::NumaNode));
    state(FabricState::Completed).unwrap();
    assert_eq!(listing(&node.accelerators()), whole);
}

/// Told by the fabric manager, so also of a GPU whose links rest while it is cut.
#[test]
fn a_clique_spans_nodes_and_its_members_import_memory_through_a_channel() {
    let domains = |node: &Node| {
        let each = node.accelerators().into_iter().map(|one| one.spanning_domain().map(|domain| domain.name.0));
        each.collect::<Vec<_>>()
    };
    assert!(domains(&Node::new("dgx-h100")).iter().all(Option::is_none));
    let tray = Node::new("gb200");
    let clique = Some("c7d3e2f1-5b64-4a8e-9f10-2d6b8a4c7e35.32766".to_owned());
    tray.run("mig 0 on");
    assert_eq!(domains(&tray), vec![clique; 4]);

    let host = Host::new(Root::new(tray.directory.path(), "/"));
    let gpu = tray.accelerators().remove(1);
    let nodes = |edits: ContainerEdits| edits.device_nodes.into_iter().map(|node| node.path).collect::<Vec<_>>();
    let (alone, member) = (nodes(gpu.container_edits(&host).unwrap()), nodes(gpu.member_edits(&host).unwrap()));
    let channel = "/dev/nvidia-caps-imex-channels/channel0";
    assert_eq!(member, [alone.clone(), vec![channel.to_owned()]].concat());
    std::fs::remove_file(tray.directory.path().join(&channel[1..])).unwrap();
    assert_eq!(nodes(gpu.member_edits(&host).unwrap()), alone);
}

#[test]
fn a_link_that_is_down_breaks_only_its_tie() {
    let down = |node: &Node, ends: &[(usize, u32)]| {
        node.machine.update(|hardware| {
            for (gpu, link) in ends {
                hardware.gpus[*gpu].links_down.insert(*link);
            }
        })
    };
    // To a switch: the fabric goes on without this GPU, which stays where its slot is.
    let node = Node::new("dgx-h100");
    down(&node, &[(3, 17)]).unwrap();
    insta::assert_snapshot!("dgx-h100_with_a_link_down", listing(&node.accelerators()));
    // Between two GPUs: the pairs that are whole remain. Link 4 of the second GPU goes to the third, where it is link 4 too.
    let node = Node::new("hgx-a100-4");
    down(&node, &[(1, 4), (2, 4)]).unwrap();
    insta::assert_snapshot!("hgx-a100-4_with_a_link_down", listing(&node.accelerators()));
}

#[test]
fn a_driver_that_tells_nothing_of_links_costs_ties_and_no_accelerator() {
    let node = Node::new("dgx-a100");
    let functions = ["GetNvLinkState", "GetNvLinkRemoteDeviceType", "GetGpuFabricInfo", "GetGpuFabricInfoV"];
    for function in functions {
        node.run(&format!("set fail=nvmlDevice{function}:FUNCTION_NOT_FOUND"));
    }
    let accelerators = node.accelerators();
    assert_eq!(accelerators.len(), 8);
    let kinds: Vec<_> = groups(&accelerators).iter().map(|group| (group.kind, group.members.len())).collect();
    assert_eq!(kinds, [(GroupKind::PcieSwitch, 2); 4]);
}
