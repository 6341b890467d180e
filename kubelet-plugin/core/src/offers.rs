//! What of a node's accelerators can be allocated: each as a whole, and parts of it.

use tessera_driver::topology::Group;
use tessera_driver::vfio::Passthrough;
use tessera_driver::{Accelerator, Made, Partition, Placement, Resources, Shape, Work};
use tessera_vocabulary::DeviceName;

use crate::inventory::Device;
use crate::{Condition, Inventory, Layout, Ledger, Scope, Slot, Use};

/// What is offered besides whole accelerators and the partitions that are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offering {
    /// Partitions that are made when a claim is prepared, each at a place of its own.
    pub partitions: bool,
    /// Whole accelerators for user space, by VFIO.
    pub passthrough: bool,
    /// Several whole accelerators at once that lie together.
    pub groups: bool,
}

impl Offering {
    /// Nothing else.
    pub const NOTHING: Self = Self { partitions: false, passthrough: false, groups: false };

    /// Whether there are offers that only counters tell apart.
    pub(crate) fn needs_counters(self) -> bool {
        self.partitions || self.passthrough || self.groups
    }
}

/// Something that can be allocated.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Offer<'a> {
    /// One, but for a group and a domain.
    pub(crate) devices: Vec<&'a Device>,
    pub(crate) what: What<'a>,
}

/// Which part of an accelerator, or which accelerators.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum What<'a> {
    Whole,
    Partition {
        shape: &'a Shape,
        placement: Placement,
    },
    /// All of it, by VFIO.
    Passthrough(&'a Passthrough),
    /// Several, each as a whole.
    Group(&'a Group),
    /// All that this node has of a fabric domain that spans nodes, each as a whole. The device is published for all nodes, and
    /// by none of them.
    Domain(&'a DeviceName),
}

impl Inventory {
    /// The name of everything that can be allocated from the node's pool, and the condition it is in.
    pub fn names(&self) -> impl Iterator<Item = (DeviceName, &Condition)> {
        self.offers().map(|offer| (offer.name(), offer.condition()))
    }

    /// The offer of a name in the pool of the node, or in that of a domain.
    pub(crate) fn offer_in(&self, scope: Scope, name: &DeviceName) -> Option<Offer<'_>> {
        match scope {
            Scope::Node => self.offer(name),
            Scope::Domain => self.offer_of_domain(name),
        }
    }

    /// The offer of a name in the node's pool.
    pub(crate) fn offer(&self, name: &DeviceName) -> Option<Offer<'_>> {
        // Names of partitions begin with that of their accelerator; which one it is, only the whole name says.
        let near =
            |device: &&Device| name.as_str().starts_with(device.name().as_str()) || device.passthrough_name() == name;
        let single = self.devices().iter().filter(near).flat_map(|device| self.offers_of(device));
        let group =
            self.groups().iter().filter(|group| group.name() == *name).filter_map(|group| self.offer_of_group(group));
        single.chain(group).find(|offer| offer.name() == *name)
    }

    /// All offers of the node's pool, whether they can be had now or not.
    pub(crate) fn offers(&self) -> impl Iterator<Item = Offer<'_>> {
        let groups = self.groups().iter().filter_map(|group| self.offer_of_group(group));
        self.devices().iter().flat_map(|device| self.offers_of(device)).chain(groups)
    }

    fn offer_of_group<'a>(&'a self, group: &'a Group) -> Option<Offer<'a>> {
        let member = |address| self.devices().iter().find(|device| device.accelerator.address == address);
        let devices = group.members.iter().map(|address| member(*address)).collect::<Option<Vec<_>>>()?;
        let may_be_grouped = |device: &&Device| device.offering(true).groups && !device.layout.is_changing();
        devices.iter().all(may_be_grouped).then_some(Offer { devices, what: What::Group(group) })
    }

    /// All offers of a device, whether they can be had now or not. Partitions come in the order in which the scheduler
    /// should take them.
    pub(crate) fn offers_of<'a>(&self, device: &'a Device) -> impl Iterator<Item = Offer<'a>> + use<'a> {
        let offering = device.offering(true);
        // Of what the bus alone knows there is nothing else to tell.
        let whole = device.accelerator.has_driver_facts() && device.offers_whole();
        let whole = whole.then_some(Offer { devices: vec![device], what: What::Whole });
        let passthrough = device.accelerator.passthrough.as_ref().filter(|_| offering.passthrough);
        let passthrough = passthrough.filter(|_| !device.layout.is_changing());
        let passthrough = passthrough.map(|facts| Offer { devices: vec![device], what: What::Passthrough(facts) });
        let partitions = device.accelerator.partitioning.iter().flat_map(move |partitioning| {
            let there = |slot: Slot| {
                partitioning.partitions.iter().any(|one| (one.shape, one.placement) == (slot.shape, slot.placement))
            };
            let is_offered = |shape: &Shape, placement| {
                let slot = Slot { placement, shape: shape.id };
                match &device.layout.layout {
                    _ if device.layout.is_changing() => false,
                    Layout::AsTold | Layout::Dynamic => offering.partitions || there(slot),
                    Layout::Partitions { slots, .. } => slots.contains(&slot),
                    Layout::Whole | Layout::Shares { .. } | Layout::Domain { .. } => false,
                }
            };
            let all =
                partitioning.shapes.iter().flat_map(|shape| shape.placements.iter().map(move |place| (shape, *place)));
            let mut all: Vec<_> = all.filter(|(shape, placement)| is_offered(shape, *placement)).collect();
            all.sort_by_key(|(shape, placement)| order(&partitioning.shapes, shape, *placement));
            all.into_iter()
                .map(|(shape, placement)| Offer { devices: vec![device], what: What::Partition { shape, placement } })
        });
        whole.into_iter().chain(partitions).chain(passthrough)
    }
}

/// Small shapes before large ones, so that a request that many fit is given the least, by memory and then by what computes
/// (3g and 4g have as much memory); and of a shape first the place that spoils the fewest others, and then the last, since
/// the largest partial shapes lie at the beginning. The scheduler takes the first that fits and knows nothing of this.
pub(crate) fn order(
    shapes: &[Shape],
    shape: &Shape,
    placement: Placement,
) -> (u32, u64, u32, u32, usize, std::cmp::Reverse<u32>) {
    let others = shapes.iter().filter(|other| other.id != shape.id);
    let spoilt = others.flat_map(|other| &other.placements).filter(|other| other.overlaps(placement)).count();
    let Resources { memory_bytes, multiprocessors, .. } = shape.resources;
    (placement.size, memory_bytes, multiprocessors, shape.id, spoilt, std::cmp::Reverse(placement.start))
}

impl<'a> Offer<'a> {
    /// The accelerator, of several the first.
    pub(crate) fn accelerator(&self) -> &'a Accelerator {
        &self.device().accelerator
    }

    fn device(&self) -> &'a Device {
        // There is always one.
        self.devices[0]
    }

    /// How many claims may have it at once, if several may.
    pub(crate) fn shares(&self) -> Option<u32> {
        match (self.what, &self.device().layout.layout) {
            (What::Whole, Layout::Shares { count }) => Some(*count),
            _ => None,
        }
    }

    /// The worst of all.
    pub(crate) fn condition(&self) -> &'a Condition {
        let conditions = || self.devices.iter().map(|device| &device.condition);
        conditions().find(|condition| **condition != Condition::Ready).unwrap_or(&self.device().condition)
    }

    /// Whether it is several accelerators, each as a whole.
    fn is_several(&self) -> bool {
        matches!(self.what, What::Group(_) | What::Domain(_))
    }

    /// Of a group or a domain, each member by itself.
    pub(crate) fn wholes(&self) -> impl Iterator<Item = Offer<'a>> {
        self.devices.iter().map(|device| Offer { devices: vec![*device], what: What::Whole })
    }

    pub(crate) fn name(&self) -> DeviceName {
        match self.what {
            What::Whole => self.device().name().clone(),
            What::Partition { shape, placement } => self.accelerator().partition_name(shape, placement),
            What::Passthrough(_) => self.device().passthrough_name().clone(),
            What::Group(group) => group.name(),
            What::Domain(name) => name.clone(),
        }
    }

    /// What whoever has it uses.
    pub(crate) fn uses(&self) -> Vec<Use> {
        let placement = match self.what {
            What::Whole | What::Passthrough(_) | What::Group(_) | What::Domain(_) => None,
            What::Partition { placement, .. } => Some(placement),
        };
        self.devices.iter().map(|device| Use { accelerator: device.name().clone(), placement }).collect()
    }

    /// The partition that it is, if that is there.
    pub(crate) fn partition(&self) -> Option<&'a Partition> {
        let What::Partition { shape, placement } = self.what else { return None };
        let partitions = &self.accelerator().partitioning.as_ref()?.partitions;
        partitions.iter().find(|one| (one.shape, one.placement) == (shape.id, placement))
    }

    /// How the driver knows the partition that is there and no claim's: somebody made it by hand, or it is its layout's.
    pub(crate) fn made_by_hand(&self, ledger: &Ledger) -> Option<&'a Made> {
        let made = self.partition()?.made.as_ref()?;
        by_hand(self.device(), ledger).any(|partition| Some(partition) == self.partition()).then_some(made)
    }

    /// Why it cannot be had, whoever has what: something that was made by hand is in the way, or the mode of the
    /// accelerator, which only a reset can change. On a server that keeps counters, or does not.
    pub(crate) fn obstacle(&self, shared_counters: bool, ledger: &Ledger) -> Option<String> {
        if self.is_several() {
            return self.wholes().find_map(|whole| whole.obstacle(shared_counters, ledger));
        }
        let offering = self.device().offering(shared_counters);
        // Bound by a claim of ours it is soon free again; bound by hand it is nobody else's.
        let bound = self.accelerator().passthrough.is_some_and(|passthrough| passthrough.bound)
            && !ledger.passes(self.accelerator().address);
        if bound && !matches!(self.what, What::Passthrough(_)) {
            return Some("it was handed to VFIO by hand".to_owned());
        }
        let partitioning = self.accelerator().partitioning.as_ref()?;
        let switches = partitioning.switchable && offering.partitions;
        match self.what {
            What::Group(_) | What::Domain(_) => None,
            What::Passthrough(_) => by_hand(self.device(), ledger)
                .next()
                .map(|partition| format!("a partition at {} that was made by hand is in the way", partition.placement)),
            What::Whole => {
                if let Some(partition) = by_hand(self.device(), ledger).next() {
                    return Some(format!("a partition at {} that was made by hand is in the way", partition.placement));
                }
                (partitioning.cut && !switches)
                    .then(|| "it is in the mode in which it has partitions; switch that off".to_owned())
            }
            What::Partition { placement, .. } => {
                let same = self.partition();
                let in_the_way = by_hand(self.device(), ledger)
                    .find(|partition| Some(*partition) != same && partition.placement.overlaps(placement));
                if let Some(partition) = in_the_way {
                    return Some(format!("a partition at {} that was made by hand is in the way", partition.placement));
                }
                if same.is_some_and(|same| same.made.is_none() && by_hand(self.device(), ledger).any(|one| one == same))
                {
                    return Some("it was made by hand and is cut further, or not finished".to_owned());
                }
                if same.is_none() && !self.device().layout.layout.slots().is_empty() {
                    let policy = &self.device().layout.policy;
                    return Some(format!(
                        "it is part of the layout of policy {policy} and not there; it is made again"
                    ));
                }
                (!partitioning.cut && !switches)
                    .then(|| "the accelerator has no partitions before it is switched and reset".to_owned())
            }
        }
    }

    /// What has to be done before it can be handed out.
    pub(crate) fn work(&self, ledger: &Ledger) -> Vec<Work> {
        if self.is_several() {
            return self.wholes().flat_map(|whole| whole.work(ledger)).collect();
        }
        let accelerator = self.accelerator();
        let (address, uuid) = (accelerator.address, accelerator.uuid().to_owned());
        let work = match self.what {
            // Asked each time: what was seen at the last look may not be so any more.
            What::Whole => {
                let switchable = accelerator.partitioning.as_ref().is_some_and(|partitioning| partitioning.switchable);
                (switchable && self.device().offering(true).partitions)
                    .then_some(Work::Join { accelerator: address, uuid })
            }
            // Where an admin has bound it already, it stays so.
            What::Passthrough(facts) if facts.bound && !ledger.passes(address) => None,
            What::Passthrough(_) => Some(Work::Pass { accelerator: address }),
            What::Partition { shape, placement } => match self.made_by_hand(ledger) {
                Some(_) => None,
                None => Some(Work::Cut { accelerator: address, uuid, shape: shape.id, placement }),
            },
            What::Group(_) | What::Domain(_) => None,
        };
        work.into_iter().collect()
    }
}

impl Device {
    /// Whether it is offered as a whole: alone, or with its neighbours.
    fn offers_whole(&self) -> bool {
        match self.layout.layout {
            _ if self.layout.is_changing() => false,
            Layout::AsTold | Layout::Whole | Layout::Dynamic | Layout::Shares { .. } => true,
            Layout::Partitions { .. } | Layout::Domain { .. } => false,
        }
    }
}

/// The partitions of a device that no claim owns: an admin made them, and only an admin may remove them, or they are its
/// layout's.
pub(crate) fn by_hand<'a>(device: &'a Device, ledger: &Ledger) -> impl Iterator<Item = &'a Partition> {
    let own = ledger.made_on(device.name());
    let partitions = device.accelerator.partitioning.iter().flat_map(|partitioning| &partitioning.partitions);
    partitions.filter(move |partition| !own.contains(&(partition.shape, partition.placement)))
}
