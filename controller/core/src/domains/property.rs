//! Whatever happens in whichever order: what is stored in the end is what a controller would store that has just started, and
//! nobody is offered a domain of which a node does not follow.

use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::ResourceSlice;
use k8s_openapi::jiff::Timestamp;
use proptest::prelude::*;
use tessera_policy::{DeviceState, Domain, Layout, NodeLayout, ReportedDevice};
use tessera_vocabulary::DriverName;

use super::DomainWrite;
use crate::testing::{desired, gpu, layout};
use crate::{Cluster, NodeName, Write};

#[derive(Clone, Debug, Default)]
struct Node {
    uid: String,
    labels: BTreeMap<String, String>,
    layout: Option<NodeLayout>,
    agent: bool,
}

/// An API server, and what was told of it.
struct World {
    cluster: Cluster,
    nodes: BTreeMap<String, Node>,
    slices: BTreeMap<String, ResourceSlice>,
    revision: u64,
}

fn new_cluster() -> Cluster {
    let mut cluster = Cluster::default();
    cluster.offer_domains([DriverName::nvidia_gpu()]);
    cluster.follow_agents();
    cluster
}

impl World {
    fn next(&mut self) -> Option<String> {
        self.revision += 1;
        Some(self.revision.to_string())
    }

    fn act(&mut self, (what, which, how): (u8, u8, u8)) {
        let name = format!("n{}", which % 4);
        let node_name = NodeName::from(name.as_str());
        match what % 8 {
            0 => {
                let Some(node) = self.nodes.remove(&name) else { return };
                self.cluster.node_gone(&node_name);
                self.cluster.agent_is_away(&node_name);
                node.layout.iter().for_each(|layout| self.cluster.layout_gone(&layout.metadata));
            }
            1 | 2 if !self.nodes.contains_key(&name) => {
                let uid = format!("uid-of-{name}");
                self.nodes.insert(name, Node { uid: uid.clone(), ..Node::default() });
                self.cluster.node(node_name, uid, BTreeMap::new());
            }
            1 => {
                let Some(node) = self.nodes.get_mut(&name) else { return };
                node.agent = !node.agent;
                match node.agent {
                    true => self.cluster.agent_is_here(&node_name),
                    false => self.cluster.agent_is_away(&node_name),
                }
            }
            2 => {
                let Some(slice) = self.slices.pop_first().map(|(_, slice)| slice) else { return };
                self.cluster.domain_slice_gone(&slice.metadata);
            }
            3 => {
                let Some(mut slice) = self.slices.first_key_value().map(|(_, slice)| slice.clone()) else { return };
                slice.spec.devices = None;
                self.store(slice);
            }
            4 => drop(self.cluster.decide(Timestamp::UNIX_EPOCH)),
            5 => self.settle(usize::from(how % 3)),
            _ => {
                let version = self.next();
                let Some(node) = self.nodes.get_mut(&name) else { return };
                let mut layout = reported(&name, how);
                layout.metadata.resource_version = version;
                node.layout = Some(layout.clone());
                self.cluster.layout(layout);
            }
        }
    }

    /// Stores it, and the watch tells.
    fn store(&mut self, mut slice: ResourceSlice) {
        slice.metadata.resource_version = self.next();
        self.slices.insert(slice.metadata.name.clone().unwrap(), slice.clone());
        self.cluster.domain_slice(slice);
    }

    /// Decides and writes, at most so many times; answers are told.
    fn settle(&mut self, rounds: usize) {
        for _ in 0..rounds {
            let writes: Vec<_> = self.cluster.decide(Timestamp::UNIX_EPOCH).into_iter().collect();
            for write in writes {
                let Write::Domain(write) = write else { continue };
                self.write(write);
            }
        }
    }

    fn write(&mut self, write: DomainWrite) {
        match write {
            DomainWrite::Label { node, labels, uid, .. } => {
                let stored = self.nodes.get_mut(node.as_ref()).unwrap();
                assert_eq!(stored.uid, uid);
                stored.labels.clone_from(&labels);
                self.cluster.node_labelled(&node);
                self.cluster.node(node, uid, labels);
            }
            DomainWrite::Create(slice) => {
                let mut slice = *slice;
                assert!(!self.slices.contains_key(slice.metadata.name.as_ref().unwrap()));
                slice.metadata.uid = self.next();
                slice.metadata.resource_version = self.next();
                self.slices.insert(slice.metadata.name.clone().unwrap(), slice.clone());
                assert!(self.cluster.domain_slice_written(slice));
            }
            DomainWrite::Update(slice) => {
                let mut slice = *slice;
                let stored = &self.slices[slice.metadata.name.as_ref().unwrap()];
                assert_eq!(stored.metadata.resource_version, slice.metadata.resource_version);
                assert!(stored.spec.pool.generation < slice.spec.pool.generation);
                slice.metadata.resource_version = self.next();
                self.slices.insert(slice.metadata.name.clone().unwrap(), slice.clone());
                assert!(self.cluster.domain_slice_written(slice));
            }
            DomainWrite::Delete { name, .. } => {
                let slice = self.slices.remove(&name).unwrap();
                self.cluster.domain_slice_gone(&slice.metadata);
            }
        }
    }

    /// Of each domain that somebody reports: whether all its nodes follow, and whether any does.
    fn domains(&self) -> BTreeMap<String, (bool, bool)> {
        let mut domains = BTreeMap::new();
        for node in self.nodes.values() {
            let Some(layout) = &node.layout else { continue };
            for device in layout.status.iter().flat_map(|status| &status.devices) {
                let Some(domain) = &device.domain else { continue };
                let told = layout.spec.devices.first().and_then(|device| device.layout.clone());
                let is = device.layout == Some(Layout::domain());
                let follows = is && told == device.layout && device.state == DeviceState::Ready && node.agent;
                let (all, any) = domains.entry(domain.name.clone()).or_insert((true, false));
                (*all, *any) = (*all && follows, *any || is);
            }
        }
        domains
    }
}

fn reported(node: &str, how: u8) -> NodeLayout {
    let (domain, wanted, is, state) = (how % 4, how / 4 % 4, how / 16 % 3, how / 48 % 3);
    let name = ["rack.1", "rack.1", "rack.2"].get(usize::from(domain));
    let wanted =
        [Some(Layout::domain()), Some(Layout::domain()), None, Some(Layout::whole())][usize::from(wanted)].clone();
    let device = ReportedDevice {
        domain: name.map(|name| Domain { name: (*name).to_owned(), nodes: None }),
        layout: [Some(Layout::domain()), Some(Layout::domain()), None][usize::from(is)].clone(),
        state: [DeviceState::Ready, DeviceState::Ready, DeviceState::Draining][usize::from(state)],
        ..gpu("gpu-0")
    };
    layout(node, vec![desired("gpu-0", "p", wanted)], vec![device])
}

/// Without what a server adds.
fn said(slices: &BTreeMap<String, ResourceSlice>) -> Vec<(&String, k8s_openapi::api::resource::v1::ResourceSliceSpec)> {
    let spec = |slice: &ResourceSlice| {
        let mut spec = slice.spec.clone();
        spec.pool.generation = 0;
        spec
    };
    slices.iter().map(|(name, slice)| (name, spec(slice))).collect()
}

proptest! {
    #[test]
    fn what_is_stored_follows_from_what_there_is(actions in proptest::collection::vec(any::<(u8, u8, u8)>(), 0..80)) {
        let mut world = World { cluster: new_cluster(), nodes: BTreeMap::new(), slices: BTreeMap::new(), revision: 0 };
        for action in actions {
            world.act(action);
        }
        world.settle(3);
        let left: Vec<_> = world.cluster.decide(Timestamp::UNIX_EPOCH).into_iter().filter(|write| matches!(write, Write::Domain(_))).collect();
        prop_assert!(left.is_empty(), "{left:?}");

        for (domain, (all, any)) in world.domains() {
            let name = super::slices::name(&super::DomainId { driver: DriverName::nvidia_gpu(), name: domain.as_str().into() });
            let taints = world.slices.get(&name).map(|slice| slice.spec.devices.as_ref().unwrap()[0].taints.is_some());
            prop_assert_eq!(taints, any.then_some(!all), "{}", domain);
        }

        let mut anew = World { cluster: new_cluster(), nodes: BTreeMap::new(), slices: BTreeMap::new(), revision: 1000 };
        for (name, node) in &world.nodes {
            anew.nodes.insert(name.clone(), node.clone());
            anew.cluster.node(name.as_str().into(), node.uid.clone(), node.labels.clone());
            node.layout.iter().for_each(|layout| anew.cluster.layout(layout.clone()));
            if node.agent {
                anew.cluster.agent_is_here(&name.as_str().into());
            }
        }
        anew.settle(1);
        prop_assert_eq!(said(&anew.slices), said(&world.slices));
        for (name, node) in &anew.nodes {
            prop_assert_eq!(&node.labels, &world.nodes[name].labels, "a label that was not right yet");
        }
    }
}
