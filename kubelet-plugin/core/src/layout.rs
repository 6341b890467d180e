//! What each device of a node is offered as: as the agent was told at its start, or as a policy says.

mod places;
mod record;
mod report;
mod step;
mod users;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use tessera_driver::Placement;
use tessera_policy::Mix;
use tessera_vocabulary::DeviceName;

use crate::Offering;
pub use places::{DoesNotFit, places};
pub use record::{Change, Failure, LayoutRecord};
pub use report::report;
pub use step::{Next, Situation, Step, Wanted, next_step};
pub use users::User;

/// What a device is offered as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// As the agent was told at its start ([`Offering`]), besides what somebody made by hand.
    #[default]
    AsTold,
    /// As a whole, and never cut.
    Whole,
    /// As a whole and in every part that it can have; parts are made when a claim is prepared.
    Dynamic,
    /// In these parts, which were made beforehand and are kept, and in nothing else.
    Partitions {
        /// The parts as a policy names them.
        mix: Vec<Mix>,
        /// Where each lies, in the order of their places.
        slots: Vec<Slot>,
    },
    /// As a whole, for so many at a time.
    Shares {
        /// How many claims or pods may have it at once.
        count: u32,
    },
    /// Together with all others of its fabric domain, on all nodes of that, and by itself not at all.
    Domain {
        /// The domain that it lay in when it was laid out. A fabric that is being made anew knows no domains for a while, and
        /// whoever has the domain has it still.
        name: String,
    },
}

/// A part of a layout: a partition that is made beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot {
    /// Where it lies.
    pub placement: Placement,
    /// The [`Shape::id`](tessera_driver::Shape::id) of its shape.
    pub shape: u32,
}

/// What a device is offered as, on whose word, and whether that is about to change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceLayout {
    /// What it is offered as.
    pub layout: Layout,
    /// The policy that says so; empty where none does.
    pub policy: String,
    /// What is done to offer it as something else.
    pub change: Option<Repartitioning>,
}

/// A device is to be offered as something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repartitioning {
    /// The policy that says so.
    pub policy: String,
    /// How far it is.
    pub stage: Stage,
}

/// How far a device is on its way to another layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nobody new gets it, and whoever has it is waited for.
    Draining,
    /// The same, and the cluster ends the pods that have it.
    Evicting,
    /// Nobody has it, and nothing of it is offered.
    Changing,
}

/// What devices are offered as of which something is known besides what the agent was told at its start, by the name of the
/// whole.
pub type Layouts = BTreeMap<DeviceName, DeviceLayout>;

impl Layout {
    /// What is offered besides the whole and what is there, by an agent that was `told` so at its start. How a whole is handed
    /// out (to user space, with its neighbours) a layout leaves as it is: it says how a device is cut.
    pub(crate) fn offering(&self, told: Offering) -> Offering {
        match self {
            Self::AsTold => told,
            Self::Whole => Offering { partitions: false, ..told },
            Self::Dynamic => Offering { partitions: true, ..told },
            Self::Partitions { .. } | Self::Shares { .. } | Self::Domain { .. } => Offering::NOTHING,
        }
    }

    /// The partitions that are made beforehand.
    pub fn slots(&self) -> &[Slot] {
        if let Self::Partitions { slots, .. } = self { slots } else { &[] }
    }

    /// Whether it is for a device that is not cut, and never is while it is in force.
    pub fn is_in_one_piece(&self) -> bool {
        matches!(self, Self::Whole | Self::Shares { .. } | Self::Domain { .. })
    }

    /// The fabric domain that it is offered with.
    pub fn domain(&self) -> Option<&str> {
        if let Self::Domain { name } = self { Some(name) } else { None }
    }

    /// What a policy says that wants it so; `None` where nothing is said.
    pub fn said(&self) -> Option<tessera_policy::Layout> {
        match self {
            Self::AsTold => None,
            Self::Whole => Some(tessera_policy::Layout::whole()),
            Self::Dynamic => Some(tessera_policy::Layout::dynamic()),
            Self::Partitions { mix, .. } => {
                Some(tessera_policy::Layout { partitions: Some(mix.clone()), ..Default::default() })
            }
            Self::Shares { count } => Some(tessera_policy::Layout::shares(*count)),
            Self::Domain { .. } => Some(tessera_policy::Layout::domain()),
        }
    }
}

/// As a person would say it.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.said() {
            Some(said) => said.fmt(f),
            None => f.write_str("what the agent was told at its start"),
        }
    }
}

impl DeviceLayout {
    /// Whether nothing of the device is offered for now.
    pub(crate) fn is_changing(&self) -> bool {
        self.change.as_ref().is_some_and(|change| change.stage == Stage::Changing)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::resource::v1::{Device as ApiDevice, DeviceTaint};
    use tessera_driver::{Accelerator, Made, Partition};
    use tessera_vocabulary::taints;

    use super::*;
    use crate::testing::{claim_ref, gpu, granted, h100, identity, inventory_of, pool};
    use crate::{Allocation, Features, Inventory, Ledger, Offering, State, plan, slices};

    /// 3g.40gb at the end, and 4g.40gb at the beginning.
    fn two() -> Layout {
        let slot = |shape, start| Slot { shape, placement: Placement { start, size: 4 } };
        let mix = ["4g.40gb", "3g.40gb"].map(|profile| Mix { profile: profile.to_owned(), count: 1 });
        Layout::Partitions { mix: mix.to_vec(), slots: vec![slot(5, 0), slot(9, 4)] }
    }

    fn laid(layout: Layout) -> DeviceLayout {
        DeviceLayout { layout, policy: "research".to_owned(), change: None }
    }

    fn changing(stage: Stage) -> DeviceLayout {
        DeviceLayout { change: Some(Repartitioning { policy: "research".to_owned(), stage }), ..Default::default() }
    }

    /// The first of two GPUs that can be cut, with these partitions, is offered so.
    fn node(told: Offering, partitions: &[Slot], layout: &DeviceLayout) -> Inventory {
        let mut accelerators = [1, 2].map(h100);
        let partition = |slot: &Slot| {
            let made = Made { gpu_instance: slot.shape, compute_instance: 0, uuid: format!("MIG-{}", slot.placement) };
            Partition { shape: slot.shape, placement: slot.placement, made: Some(made) }
        };
        if let Accelerator { partitioning: Some(partitioning), .. } = &mut accelerators[0] {
            partitioning.partitions = partitions.iter().map(partition).collect();
            partitioning.cut = !partitions.is_empty();
        }
        inventory_of(told, accelerators.to_vec()).laid_out(&[(gpu(1).name(), layout.clone())].into())
    }

    fn published(inventory: &Inventory, features: Features) -> Vec<ApiDevice> {
        let slices = slices(&pool(), inventory, features, &Ledger::default());
        slices.into_iter().flat_map(|slice| slice.spec.devices.into_iter().flatten()).collect()
    }

    /// How many partitions of the first GPU are published, and whether it is as a whole; and the same of the second.
    fn counted(inventory: &Inventory) -> [(usize, bool); 2] {
        let devices = published(inventory, Features::default());
        [gpu(1), gpu(2)].map(|gpu| {
            let name = gpu.name().to_string();
            let parts = devices.iter().filter(|device| device.name.starts_with(&format!("{name}-mig"))).count();
            (parts, devices.iter().any(|device| device.name == name))
        })
    }

    #[test]
    fn each_device_is_offered_by_its_own_layout() {
        let (nothing, on_demand) = (Offering::NOTHING, Offering { partitions: true, ..Offering::NOTHING });
        let slots = two().slots().to_vec();
        let places = h100(1).partitioning.unwrap().shapes.iter().map(|shape| shape.placements.len()).sum();
        let hidden = changing(Stage::Changing);
        for (what, told, there, layout, first, second) in [
            ("as told", nothing, &[][..], DeviceLayout::default(), (0, true), (0, true)),
            ("as told, on demand", on_demand, &[], DeviceLayout::default(), (places, true), (places, true)),
            ("whole", on_demand, &[], laid(Layout::Whole), (0, true), (places, true)),
            ("dynamic", nothing, &[], laid(Layout::Dynamic), (places, true), (0, true)),
            ("partitions", on_demand, &slots, laid(two()), (2, false), (places, true)),
            ("partitions, of which one is gone", nothing, &slots[..1], laid(two()), (1, false), (0, true)),
            ("on its way", on_demand, &slots, hidden, (0, false), (places, true)),
        ] {
            assert_eq!(counted(&node(told, there, &layout)), [first, second], "{what}");
        }
    }

    #[test]
    fn who_waits_for_a_device_keeps_others_off_it() {
        for (stage, effect) in [(Stage::Draining, "NoSchedule"), (Stage::Evicting, "NoExecute")] {
            let inventory = node(Offering::NOTHING, &[], &changing(stage));
            let devices = published(&inventory, Features::default());
            let taints = devices[0].taints.clone().unwrap_or_default();
            let DeviceTaint { key, value, effect: found, .. } = &taints[0];
            assert_eq!(
                (key.as_str(), value.as_deref(), found.as_str()),
                (taints::REPARTITIONING, Some("research"), effect)
            );
            assert_eq!((taints.len(), &devices[1].taints), (1, &None));
            let without = Features { device_taints: false, ..Features::default() };
            assert_eq!(published(&inventory, without).len(), 1, "a server that drops taints");
            let unusable = |unit: &crate::Unit<'_>| matches!(&unit.state, State::Unusable { .. });
            let units = inventory.units(&Ledger::default());
            assert_eq!(units.iter().map(unusable).collect::<Vec<_>>(), [true, false], "by count, too");
        }
    }

    #[test]
    fn a_policys_long_name_is_cut_to_a_taints_value() {
        let policy = format!("{}.{}", "a".repeat(62), "b".repeat(80));
        let layout =
            DeviceLayout { change: Some(Repartitioning { policy, stage: Stage::Draining }), ..Default::default() };
        let devices = published(&node(Offering::NOTHING, &[], &layout), Features::default());
        assert_eq!(devices[0].taints.as_ref().unwrap()[0].value, Some("a".repeat(62)));
    }

    #[test]
    fn what_is_not_offered_any_more_is_refused_with_its_reason() {
        let slots = two().slots().to_vec();
        let whole = gpu(1).name();
        let [four, other] = [5, 14].map(|id| {
            let accelerator = h100(1);
            let shape = accelerator.partitioning.as_ref().unwrap().shape(id).unwrap();
            accelerator.partition_name(shape, shape.placements[0])
        });
        let research = "policy research";
        for (what, there, layout, device, reason) in [
            ("a whole that is cut", &slots[..], laid(two()), &whole, "makes the accelerator 4g.40gb, 3g.40gb"),
            ("a part of another layout", &slots, laid(two()), &other, research),
            ("a part that is gone", &slots[1..], laid(two()), &four, "is made again"),
            ("a part of a whole", &[], laid(Layout::Whole), &four, "makes the accelerator whole"),
            ("on its way", &[], changing(Stage::Changing), &whole, "being changed by policy research"),
        ] {
            let allocation = Allocation { device: device.clone(), ..crate::testing::allocation("gpu", 1) };
            let inventory = node(Offering::NOTHING, there, &layout);
            let edits =
                |_: crate::Part<'_>| Ok(cdi::ContainerEdits { env: vec!["A=b".to_owned()], ..Default::default() });
            let granted = granted(&[allocation]);
            let planned = |inventory: &Inventory| {
                plan(&identity(), &claim_ref("uid-1"), &granted, inventory, &Ledger::default(), edits)
            };
            let refusal = planned(&inventory).unwrap_err().to_string();
            assert!(refusal.contains(reason) && refusal.len() < 256, "{what}: {refusal}");
        }
        // What was allocated before the device was tainted is prepared: it is waited for like any other.
        let draining = node(Offering::NOTHING, &[], &changing(Stage::Draining));
        let granted = granted(&[crate::testing::allocation("gpu", 1)]);
        let edits = |_: crate::Part<'_>| Ok(cdi::ContainerEdits { env: vec!["A=b".to_owned()], ..Default::default() });
        plan(&identity(), &claim_ref("uid-1"), &granted, &draining, &Ledger::default(), edits).unwrap();
    }
}
