use std::collections::{BTreeMap, BTreeSet};

use tessera_driver::topology::{Group, Place, groups, places};
use tessera_driver::vfio::{Passthrough, Ways};
use tessera_driver::{Accelerator, Discovery, Partitioning, Work};
use tessera_vocabulary::{DeviceName, PciAddress};

use crate::published::Once;
use crate::{DeviceLayout, Layouts, Offering};

/// What a node has to offer, by PCI address: the order in which the scheduler tries devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// What is offered besides whole accelerators where no layout says otherwise.
    offering: Offering,
    layouts: Layouts,
    /// The accelerators of which nothing is published but what claims hold.
    withheld: BTreeSet<PciAddress>,
    devices: Vec<Device>,
    /// Where each accelerator lies, as far as that tells which lie together.
    places: BTreeMap<PciAddress, Place>,
    groups: Vec<Group>,
}

/// An accelerator and the state it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What was found.
    pub accelerator: Accelerator,
    /// Whether it can be used.
    pub condition: Condition,
    /// What it is offered as.
    pub layout: DeviceLayout,
    /// What is offered of it besides the whole and what is there.
    offering: Offering,
    /// Its names as a whole, kept since every prepare looks for one among all.
    names: Names,
    /// How it is published as a whole, kept since every prepare of it says so.
    pub(crate) published: Once,
}

/// Under which names a device is published that is not cut.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Names {
    whole: DeviceName,
    passthrough: DeviceName,
    /// That of the domain that it is offered with.
    domain: Option<DeviceName>,
}

/// Whether a device can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It answers.
    Ready,
    /// It was there and no longer answers.
    Lost {
        /// Why, in words for a pod's event.
        cause: String,
    },
}

impl Inventory {
    /// That of a node that has nothing, or has not been looked at yet.
    pub const EMPTY: Self = Self {
        offering: Offering::NOTHING,
        layouts: Layouts::new(),
        withheld: BTreeSet::new(),
        devices: Vec::new(),
        places: BTreeMap::new(),
        groups: Vec::new(),
    };

    /// That of a node that was not looked at yet, and that will offer this.
    pub fn new(offering: Offering) -> Self {
        Self { offering, ..Self::EMPTY }
    }

    /// What is offered besides whole accelerators where no layout says otherwise.
    pub fn offering(&self) -> Offering {
        self.offering
    }

    /// The devices, by PCI address.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// The accelerator that has this name as a whole.
    pub fn find(&self, name: &DeviceName) -> Option<&Device> {
        self.devices.iter().find(|device| device.name() == name)
    }

    /// What is known after another look at the hardware.
    ///
    /// A device that answered before and does no more is kept as lost when it is still on the bus or when a claim
    /// has it or a part of it (`in_use`): its claim must stay visible, and an API object that loses an allocated device frees it in the
    /// scheduler's eyes. It is dropped when it was pulled out and nobody holds it.
    #[must_use]
    pub fn after(&self, found: &Discovery, in_use: &BTreeSet<DeviceName>) -> Self {
        let answers = |device: &Device| {
            let mut same = found.accelerators.iter().filter(|one| one.address == device.accelerator.address);
            same.any(|found| found.has_driver_facts() || found.passthrough.is_some())
        };
        let lost = self.devices.iter().filter(|device| !answers(device)).filter_map(|device| {
            let on_the_bus = found.on_the_bus.contains(&device.accelerator.address);
            let cause =
                if on_the_bus { "its driver no longer answers for it" } else { "it is no longer on the PCI bus" };
            (on_the_bus || in_use.contains(device.name())).then(|| device.lost(cause))
        });
        let ready = found.accelerators.iter().filter_map(|found| {
            let accelerator = match self.devices.iter().find(|known| known.accelerator.address == found.address) {
                // User space has it, and nothing tells how: it is as good as silent.
                Some(_) if !found.has_driver_facts() && found.passthrough.is_none() => return None,
                Some(known) if !found.has_driver_facts() => without_driver(&known.accelerator, found.passthrough),
                _ => found.clone(),
            };
            Some(Device::new(accelerator, Condition::Ready))
        });
        let mut devices: Vec<_> = ready.chain(lost).collect();
        devices.sort_by_key(|device| device.accelerator.address);
        Self::of(self.offering, self.layouts.clone(), devices)
    }

    /// Which accelerators lie together does not depend on the state that they are in: else those that are left would be
    /// paired anew.
    fn of(offering: Offering, layouts: Layouts, mut devices: Vec<Device>) -> Self {
        devices.iter_mut().for_each(|device| device.lay_out(offering, &layouts));
        let known = || devices.iter().map(|device| &device.accelerator).filter(|one| one.has_driver_facts());
        let groups = if offering.groups { groups(known()) } else { Vec::new() };
        Self { offering, layouts, withheld: BTreeSet::new(), places: places(known()), groups, devices }
    }

    /// The same, with devices that are offered as these say, and the others as the agent was told at its start.
    #[must_use]
    pub fn laid_out(mut self, layouts: &Layouts) -> Self {
        self.layouts.clone_from(layouts);
        let offering = self.offering;
        self.devices.iter_mut().for_each(|device| device.lay_out(offering, layouts));
        self
    }

    /// What is said of the devices that are not offered as the agent was told at its start.
    pub fn layouts(&self) -> &Layouts {
        &self.layouts
    }

    /// The same, with accelerators of which nothing is published but what claims hold: who wants the rest asks by another
    /// API. Claims that were allocated before are prepared as ever.
    #[must_use]
    pub fn withholding(mut self, is_withheld: impl Fn(&Accelerator) -> bool) -> Self {
        let accelerators = self.devices.iter().map(|device| &device.accelerator);
        self.withheld = accelerators.filter(|one| is_withheld(one)).map(|one| one.address).collect();
        self
    }

    pub(crate) fn withholds(&self, device: &Device) -> bool {
        self.withheld.contains(&device.accelerator.address)
    }

    /// Accelerators that are handed out together, in the order in which the scheduler should take them.
    pub(crate) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Where an accelerator lies.
    pub(crate) fn place(&self, accelerator: &Accelerator) -> Option<&Place> {
        self.places.get(&accelerator.address)
    }

    /// What is known after a look that failed: what there was, and that none of it can be used for now.
    #[must_use]
    pub fn unreachable(&self, cause: &str) -> Self {
        Self::of(self.offering, self.layouts.clone(), self.devices.iter().map(|device| device.lost(cause)).collect())
    }

    /// The same, but of some accelerators what was `known` of them before, if they did not answer now.
    #[must_use]
    pub fn unless_lost(mut self, accelerators: &BTreeSet<PciAddress>, known: &Self) -> Self {
        let address = |device: &Device| device.accelerator.address;
        for device in &mut self.devices {
            let before = known.devices.iter().find(|known| address(known) == address(device));
            if let Some(before) = before.filter(|_| accelerators.contains(&address(device)) && device.is_lost()) {
                let (layout, offering, names) =
                    (std::mem::take(&mut device.layout), device.offering, device.names.clone());
                *device = Device { layout, offering, names, ..before.clone() };
            }
        }
        self
    }

    /// What is known once work was undone, until the next look: what was seen of it is nobody's doing by hand.
    #[must_use]
    pub fn without(mut self, work: &Work) -> Self {
        for device in self.devices.iter_mut().filter(|device| device.accelerator.address == work.accelerator()) {
            device.published = Once::default();
            let accelerator = &mut device.accelerator;
            match work {
                Work::Join { .. } => {}
                Work::Cut { shape, placement, .. } => {
                    let partitionings = accelerator.partitioning.iter_mut();
                    partitionings.for_each(|own| {
                        own.partitions.retain(|one| (one.shape, one.placement) != (*shape, *placement));
                    });
                }
                Work::Pass { .. } => accelerator.passthrough.iter_mut().for_each(|own| {
                    (own.bound, own.ways) = (false, Ways::default());
                }),
            }
        }
        self
    }
}

/// What is known while user space has it: only the bus tells of it then, and what its driver told before is still so. All
/// that it was cut into ended with its driver.
fn without_driver(known: &Accelerator, passthrough: Option<Passthrough>) -> Accelerator {
    let partitioning = known.partitioning.clone().map(|own| Partitioning { partitions: Vec::new(), ..own });
    Accelerator { passthrough, partitioning, ..known.clone() }
}

impl Device {
    fn new(accelerator: Accelerator, condition: Condition) -> Self {
        let names = Names { whole: accelerator.name(), passthrough: accelerator.passthrough_name(), domain: None };
        Self {
            accelerator,
            condition,
            layout: DeviceLayout::default(),
            offering: Offering::NOTHING,
            names,
            published: Once::default(),
        }
    }

    fn lay_out(&mut self, told: Offering, layouts: &Layouts) {
        self.layout = layouts.get(&self.names.whole).cloned().unwrap_or_default();
        self.offering = self.layout.layout.offering(told);
        self.names.domain = self.layout.layout.domain().map(DeviceName::domain);
        self.published = Once::default();
    }

    /// What is offered of it besides the whole and what is there, on a server that keeps counters or does not: without them
    /// nothing is offered that only they tell apart.
    pub(crate) fn offering(&self, shared_counters: bool) -> Offering {
        if shared_counters { self.offering } else { Offering::NOTHING }
    }

    fn is_lost(&self) -> bool {
        self.condition != Condition::Ready
    }

    fn lost(&self, cause: &str) -> Self {
        Self { condition: Condition::Lost { cause: cause.to_owned() }, ..self.clone() }
    }

    /// The name of the whole accelerator.
    pub(crate) fn name(&self) -> &DeviceName {
        &self.names.whole
    }

    /// The name of the domain that it is offered with.
    pub(crate) fn domain_name(&self) -> Option<&DeviceName> {
        self.names.domain.as_ref()
    }

    /// The name of the accelerator that is handed to user space.
    pub(crate) fn passthrough_name(&self) -> &DeviceName {
        &self.names.passthrough
    }
}

#[cfg(test)]
mod tests {
    use tessera_driver::{Facts, Partition, Placement};

    use super::*;
    use crate::testing::{gpu, gpus};

    fn look(present: &[u8], on_the_bus: &[u8]) -> Discovery {
        Discovery {
            accelerators: present.iter().map(|bus| gpu(*bus)).collect(),
            on_the_bus: on_the_bus.iter().map(|bus| gpu(*bus).address).collect(),
            problems: Vec::new(),
        }
    }

    fn names(inventory: &Inventory) -> Vec<String> {
        let describe = |device: &Device| match &device.condition {
            Condition::Ready => format!("{:x}", device.accelerator.address.bus),
            Condition::Lost { .. } => format!("{:x} lost", device.accelerator.address.bus),
        };
        inventory.devices().iter().map(describe).collect()
    }

    #[test]
    fn a_device_that_no_longer_answers_is_lost_or_gone() {
        let before = gpus(&[1, 2, 3]);
        let held = BTreeSet::from([gpu(2).name()]);
        let nobody = BTreeSet::new();
        for (what, found, held, expected) in [
            ("all there", look(&[1, 2, 3], &[1, 2, 3]), &nobody, vec!["1", "2", "3"]),
            ("off the bus and free", look(&[1, 3], &[1, 3]), &nobody, vec!["1", "3"]),
            ("off the bus and held", look(&[1, 3], &[1, 3]), &held, vec!["1", "2 lost", "3"]),
            ("silent on the bus", look(&[1, 3], &[1, 2, 3]), &nobody, vec!["1", "2 lost", "3"]),
            ("a new one", look(&[1, 2, 3, 4], &[1, 2, 3, 4]), &nobody, vec!["1", "2", "3", "4"]),
        ] {
            assert_eq!(names(&before.after(&found, held)), expected, "{what}");
        }
    }

    #[test]
    fn what_user_space_has_is_not_cut_any_more_and_is_lost_where_nothing_tells_how_it_has_it() {
        let place = Placement { start: 0, size: 4 };
        let cut = Partitioning {
            cut: true,
            switchable: true,
            shapes: Vec::new(),
            partitions: vec![Partition { shape: 9, placement: place, made: None }],
        };
        let known = Accelerator { partitioning: Some(cut), ..gpu(1) };
        let bus = |passthrough| Discovery {
            accelerators: vec![Accelerator { facts: Facts::NvidiaFunction, partitioning: None, passthrough, ..gpu(1) }],
            on_the_bus: BTreeSet::from([gpu(1).address]),
            problems: Vec::new(),
        };
        let told = Discovery { accelerators: vec![known], ..look(&[], &[1]) };
        let before = Inventory::default().after(&told, &BTreeSet::new());
        let ways = Ways { group: Some(12), device: None };
        let bound = Passthrough { vendor_id: 0x10de, device_id: 0x2330, bound: true, ways, iommufd: false };

        let after = before.after(&bus(Some(bound)), &BTreeSet::new());
        assert_eq!(names(&after), ["1"]);
        let partitioning = after.devices()[0].accelerator.partitioning.as_ref().unwrap();
        assert!(partitioning.cut && partitioning.partitions.is_empty(), "{partitioning:?}");
        assert_eq!(names(&before.after(&bus(None), &BTreeSet::new())), ["1 lost"]);
    }

    #[test]
    fn a_lost_device_comes_back() {
        let lost = gpus(&[1, 2]).unreachable("the driver is being replaced");
        assert_eq!(names(&lost), ["1 lost", "2 lost"]);
        assert_eq!(names(&lost.after(&look(&[1, 2], &[1, 2]), &BTreeSet::new())), ["1", "2"]);
    }
}
