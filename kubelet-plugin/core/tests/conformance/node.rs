use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::resource::v1::{CounterSet, Device, ResourceSlice};
use simulated_hardware::{Hardware, Machine, Profile};
use tempfile::TempDir;
use tessera_core::{
    Allocation, ClaimRef, Features, Granted, Identity, Inventory, Ledger, NodeIdentity, Offering, Part, Pool, Record,
    Scope, plan, slices,
};
use tessera_driver::{Backend, Discovery, Host, Root};

use crate::subjects::Subject;

/// A simulated machine with a backend's hardware in it.
pub(crate) struct Node<'a> {
    pub(crate) subject: &'a dyn Subject,
    pub(crate) machine: Machine,
    directory: TempDir,
}

/// All that the hardware has, and can be cut into.
pub(crate) const EVERYTHING: Offering = Offering { partitions: true, passthrough: false, groups: true };
/// What takes no work on the hardware.
pub(crate) const READY: Offering = Offering { partitions: false, passthrough: false, groups: true };

impl<'a> Node<'a> {
    pub(crate) fn new(subject: &'a dyn Subject, machine: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let library = simulated_hardware::library().expect("cargo build -p fake-nvml");
        let machine = Machine::create(directory.path(), &Profile::named(machine).unwrap(), &library).unwrap();
        Self { subject, machine, directory }
    }

    pub(crate) fn root(&self) -> Root {
        Root::new(self.directory.path(), "/")
    }

    pub(crate) fn backend(&self) -> Box<dyn Backend> {
        self.subject.backend(self.root())
    }

    /// The PCI addresses of all accelerators that the machine has.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.subject.addresses(&self.machine.hardware().unwrap())
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Hardware)) {
        self.machine.update(change).unwrap();
    }

    /// What an agent that has just started knows.
    pub(crate) fn inventory(&self, offering: Offering) -> Result<Inventory, String> {
        Ok(Inventory::new(offering).after(&look(&mut *self.backend())?, &BTreeSet::new()))
    }

    /// What a claim for these devices gets.
    pub(crate) fn plan(
        &self,
        uid: &str,
        devices: &[String],
        inventory: &Inventory,
        ledger: &Ledger,
    ) -> Result<Record, String> {
        let allocation = |device: &String| Allocation {
            scope: Scope::Node,
            request: "all".to_owned(),
            full_request: "all".to_owned(),
            device: device.parse().unwrap(),
            share_id: None,
            admin_access: false,
        };
        let granted = Granted { allocations: devices.iter().map(allocation).collect(), configs: Vec::new() };
        let claim = ClaimRef { namespace: "team".to_owned(), name: "work".to_owned(), uid: uid.parse().unwrap() };
        let host = Host::new(self.root());
        let edits = |part: Part<'_>| match part {
            Part::Whole(accelerator) => accelerator.container_edits(&host).map_err(|error| error.to_string()),
            Part::Member(accelerator) => accelerator.member_edits(&host).map_err(|error| error.to_string()),
            Part::Partition(..) | Part::Passthrough(..) => Err("takes work, which is not done here".to_owned()),
        };
        plan(&self.identity(), &claim, &granted, inventory, ledger, edits).map_err(|refusal| refusal.to_string())
    }

    fn identity(&self) -> Identity {
        Identity::new(self.subject.driver(), "node-1".to_owned(), "boot".to_owned()).unwrap()
    }

    /// What is published.
    pub(crate) fn publish(&self, inventory: &Inventory, ledger: &Ledger) -> Published {
        let node = NodeIdentity { name: "node-1".to_owned(), uid: "0b5c0c1e".to_owned() };
        let pool = Pool { driver: self.subject.driver(), node };
        Published(slices(&pool, inventory, Features::default(), ledger))
    }
}

/// One look, in which a panic is a fault like any other.
pub(crate) fn look(backend: &mut dyn Backend) -> Result<Discovery, String> {
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| backend.discover()));
    found.map_err(|_| "a look panics".to_owned())?.map_err(|error| format!("a look fails: {error}"))
}

/// The slices of the driver.
pub(crate) struct Published(pub(crate) Vec<ResourceSlice>);

impl Published {
    pub(crate) fn devices(&self) -> impl Iterator<Item = &Device> {
        self.0.iter().filter_map(|slice| slice.spec.devices.as_ref()).flatten()
    }

    pub(crate) fn sets(&self) -> impl Iterator<Item = &CounterSet> {
        self.0.iter().filter_map(|slice| slice.spec.shared_counters.as_ref()).flatten()
    }

    pub(crate) fn by_name(&self) -> BTreeMap<&str, &Device> {
        self.devices().map(|device| (device.name.as_str(), device)).collect()
    }
}

/// The type that a device says it has.
pub(crate) fn type_of(device: &Device) -> &str {
    attribute(device, "type").unwrap_or("?")
}

pub(crate) fn attribute<'a>(device: &'a Device, name: &str) -> Option<&'a str> {
    device.attributes.as_ref()?.get(name)?.string.as_deref()
}

/// The first of these that says what it found.
pub(crate) fn holds(found: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if found { Ok(()) } else { Err(what()) }
}
