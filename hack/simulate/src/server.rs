//! The API server: the node's slices with versions and watches, and its faults. Claims are in `claims.rs`.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use k8s_openapi::api::resource::v1::ResourceSlice;
use tessera_core::{NodeIdentity, Write};

use crate::event::{ApiFault, Edit};

/// What a watch tells.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Listed(Vec<Rc<ResourceSlice>>),
    Applied(Rc<ResourceSlice>),
    Deleted(Rc<ResourceSlice>),
}

/// An answer that is none of success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the API server does not answer")]
    Away,
    #[error("an internal error of the API server")]
    Internal,
    #[error("conflict")]
    Conflict,
    #[error("not found")]
    NotFound,
    #[error("the agent died")]
    Died,
}

#[derive(Debug, Default)]
pub(crate) struct Server {
    pub(crate) slices: BTreeMap<String, Rc<ResourceSlice>>,
    pub(crate) node: u64,
    version: u64,
    pub(crate) down: bool,
    pub(crate) drops_taints: bool,
    pub(crate) next_fault: Option<(u8, ApiFault)>,
    /// What each agent has still to hear.
    pub(crate) watches: BTreeMap<u32, VecDeque<Change>>,
    /// How many writes of agents it carried out.
    pub(crate) writes: u64,
}

impl Server {
    pub(crate) fn node(&self, name: &str) -> Result<NodeIdentity, Refused> {
        if self.down {
            return Err(Refused::Away);
        }
        Ok(NodeIdentity { name: name.to_owned(), uid: self.node_uid() })
    }

    pub(crate) fn node_uid(&self) -> String {
        format!("node-uid-{}", self.node)
    }

    /// Begins a watch with a list.
    pub(crate) fn watch(&mut self, agent: u32) {
        let list = Change::Listed(self.slices.values().cloned().collect());
        self.watches.insert(agent, VecDeque::from([list]));
    }

    pub(crate) fn relist(&mut self) {
        for agent in self.watches.keys().copied().collect::<Vec<_>>() {
            self.watch(agent);
        }
    }

    /// One write of an agent. What is stored comes back, but for a deletion.
    pub(crate) fn write(&mut self, write: &Write) -> Result<Option<Rc<ResourceSlice>>, Refused> {
        if self.down {
            return Err(Refused::Away);
        }
        let fault = match &mut self.next_fault {
            Some((0, _)) => self.next_fault.take().map(|(_, fault)| fault),
            Some((writes, _)) => {
                *writes -= 1;
                None
            }
            None => None,
        };
        match fault {
            Some(ApiFault::Fails) => return Err(Refused::Internal),
            Some(ApiFault::Conflict) => return Err(Refused::Conflict),
            _ => {}
        }
        let stored = self.carry_out(write)?;
        self.writes += 1;
        match fault {
            Some(ApiFault::AnswerLost) => Err(Refused::Away),
            Some(ApiFault::AgentDies) => Err(Refused::Died),
            _ => Ok(stored),
        }
    }

    fn carry_out(&mut self, write: &Write) -> Result<Option<Rc<ResourceSlice>>, Refused> {
        let name = write.metadata().name.as_deref().unwrap_or_default();
        let current = self.slices.get(name);
        let same_version = |current: &Rc<ResourceSlice>| {
            let version = &write.metadata().resource_version;
            version.is_none() || *version == current.metadata.resource_version
        };
        match (write, current) {
            (Write::Delete(_) | Write::Update(_), None) => Err(Refused::NotFound),
            (Write::Create(_), Some(_)) => Err(Refused::Conflict),
            (Write::Delete(_) | Write::Update(_), Some(current)) if !same_version(current) => Err(Refused::Conflict),
            (Write::Delete(_), Some(_)) => {
                self.delete(name);
                Ok(None)
            }
            (Write::Update(slice) | Write::Create(slice), current) => {
                let uid = current.and_then(|current| current.metadata.uid.clone());
                let had_taints = current.is_some_and(|current| has_taints(current));
                let mut stored = slice.clone();
                stored.metadata.uid = uid;
                // A server drops the fields of a feature that is off, unless the object has them already.
                if self.drops_taints && !had_taints {
                    untaint(&mut stored);
                }
                Ok(Some(self.store(stored)))
            }
        }
    }

    fn store(&mut self, mut slice: ResourceSlice) -> Rc<ResourceSlice> {
        self.version += 1;
        slice.metadata.resource_version = Some(self.version.to_string());
        if slice.metadata.uid.is_none() {
            slice.metadata.uid = Some(format!("slice-uid-{}", self.version));
        }
        let slice = Rc::new(slice);
        self.slices.insert(slice.metadata.name.clone().unwrap_or_default(), slice.clone());
        self.tell(&Change::Applied(slice.clone()));
        slice
    }

    fn delete(&mut self, name: &str) {
        if let Some(slice) = self.slices.remove(name) {
            self.version += 1;
            self.tell(&Change::Deleted(slice));
        }
    }

    fn tell(&mut self, change: &Change) {
        for watch in self.watches.values_mut() {
            watch.push_back(change.clone());
        }
    }

    /// The kubelet deletes all slices of its node.
    pub(crate) fn wipe(&mut self) {
        for name in self.slices.keys().cloned().collect::<Vec<_>>() {
            self.delete(&name);
        }
    }

    /// Removes slices whose node is gone.
    pub(crate) fn collect(&mut self) {
        let uid = self.node_uid();
        let orphan =
            |slice: &ResourceSlice| slice.metadata.owner_references.iter().flatten().any(|owner| owner.uid != uid);
        let orphans: Vec<_> =
            self.slices.iter().filter(|(_, slice)| orphan(slice)).map(|(name, _)| name.clone()).collect();
        for name in orphans {
            self.delete(&name);
        }
    }

    /// A person's hand.
    pub(crate) fn edit(&mut self, index: u8, edit: Edit) {
        let count = self.slices.len().max(1);
        let Some(slice) = self.slices.values().nth(usize::from(index) % count) else { return };
        let mut slice = ResourceSlice::clone(slice);
        match edit {
            Edit::Delete => {
                self.delete(&slice.metadata.name.unwrap_or_default());
                return;
            }
            Edit::Untaint => untaint(&mut slice),
            Edit::TakeDevice => {
                slice.spec.devices = slice.spec.devices.map(|mut devices| {
                    devices.pop();
                    devices
                });
            }
            Edit::Generation => slice.spec.pool.generation += 3,
            Edit::Count => slice.spec.pool.resource_slice_count += 1,
            Edit::Foreign => {
                slice.metadata.name = Some(format!("by-hand-{}", index % 2));
                slice.metadata.uid = None;
            }
        }
        self.store(slice);
    }
}

fn untaint(slice: &mut ResourceSlice) {
    for device in slice.spec.devices.iter_mut().flatten() {
        device.taints = None;
    }
}

fn has_taints(slice: &ResourceSlice) -> bool {
    slice.spec.devices.iter().flatten().any(|device| device.taints.as_ref().is_some_and(|taints| !taints.is_empty()))
}
