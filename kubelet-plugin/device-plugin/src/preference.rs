use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use tessera_core::Inventory;
use tessera_driver::topology::nearest;
use tessera_vocabulary::PciAddress;

use crate::{AllocationPolicy, DeviceId, Offered, Resource};

/// Which `size` of the devices that the kubelet has `available` a container should get, with all that it `must` get. Fewer
/// where there are not so many; the kubelet fills up as it likes then.
///
/// Whole accelerators are chosen so that they lie well together. Of what several pods share, and of partitions, the policy
/// says whether pods are spread over accelerators or fill them one after the other.
pub fn preferred(
    resource: &Resource,
    inventory: &Inventory,
    policy: AllocationPolicy,
    available: &[DeviceId],
    must: &[DeviceId],
    size: usize,
) -> Vec<DeviceId> {
    let known: BTreeMap<&DeviceId, &Offered> = resource.devices.iter().map(|device| (&device.id, device)).collect();
    let find = |ids: &[DeviceId]| ids.iter().filter_map(|id| known.get(id).copied()).collect::<Vec<_>>();
    let (must, mut free) = (find(must), find(available));
    free.sort_by_key(|device| (device.accelerator, &device.id));
    free.dedup_by_key(|device| &device.id);
    let aligned = resource.devices.iter().all(|device| device.is_whole && !device.id.is_replica());
    if !aligned {
        return balanced(resource, policy, &free, &must, size);
    }
    let addresses = |devices: &[&Offered]| devices.iter().map(|device| device.accelerator).collect::<BTreeSet<_>>();
    let all = inventory.devices().iter().map(|device| &device.accelerator).filter(|one| one.has_driver_facts());
    let found = nearest(all, &addresses(&free), &addresses(&must), size);
    free.into_iter().filter(|device| found.contains(&device.accelerator)).map(|device| device.id.clone()).collect()
}

/// One device after the other, each of the accelerator that is in use the least, or the most.
fn balanced(
    resource: &Resource,
    policy: AllocationPolicy,
    free: &[&Offered],
    must: &[&Offered],
    size: usize,
) -> Vec<DeviceId> {
    let mut chosen: Vec<&Offered> = must.to_vec();
    let mut left: Vec<&Offered> =
        free.iter().copied().filter(|device| must.iter().all(|other| other.id != device.id)).collect();
    while chosen.len() < size {
        let used = Usage::of(resource, &left);
        let best = (0..left.len()).min_by_key(|at| {
            let (by_accelerator, by_unit) = used.of_device(left[*at]);
            match policy {
                AllocationPolicy::Distributed => (by_accelerator, by_unit, Reverse(0), Reverse(0)),
                AllocationPolicy::Packed => (0, 0, Reverse(by_accelerator), Reverse(by_unit)),
            }
        });
        let Some(best) = best else { break };
        chosen.push(left.remove(best));
    }
    chosen.truncate(size.max(must.len()));
    chosen.into_iter().map(|device| device.id.clone()).collect()
}

/// How many devices of each accelerator, and of each unit, are in use.
struct Usage<'a> {
    accelerators: BTreeMap<PciAddress, usize>,
    units: BTreeMap<&'a str, usize>,
}

impl<'a> Usage<'a> {
    fn of(resource: &'a Resource, free: &[&'a Offered]) -> Self {
        let free: BTreeSet<&DeviceId> = free.iter().map(|device| &device.id).collect();
        let (mut accelerators, mut units) = (BTreeMap::new(), BTreeMap::new());
        for device in resource.devices.iter().filter(|device| !free.contains(&device.id)) {
            *accelerators.entry(device.accelerator).or_default() += 1;
            *units.entry(device.id.unit()).or_default() += 1;
        }
        Self { accelerators, units }
    }

    fn of_device(&self, device: &Offered) -> (usize, usize) {
        let of_accelerator = self.accelerators.get(&device.accelerator).copied().unwrap_or_default();
        (of_accelerator, self.units.get(device.id.unit()).copied().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tessera_core::{Ledger, Offering};
    use tessera_driver::Accelerator;

    use super::*;
    use crate::testing::{NOBODY, basis, cut, gpu, inventory};
    use crate::{Config, offer};

    fn node(accelerators: Vec<Accelerator>, config: &str) -> (Inventory, Resource) {
        let inventory = inventory(Offering::NOTHING, accelerators);
        let config = Config::parse(config).unwrap();
        let mut offer = offer(&basis(&inventory.units(&Ledger::default()), &NOBODY), &config);
        let resource = offer.resources.pop_first().unwrap().1;
        (inventory, resource)
    }

    fn ids(resource: &Resource, at: &[usize]) -> Vec<DeviceId> {
        at.iter().map(|at| resource.devices[*at].id.clone()).collect()
    }

    const SHARED: &str = "sharing: {timeSlicing: {resources: [{name: gpu, replicas: 3}]}}";

    #[test]
    fn pods_are_spread_over_accelerators_or_fill_them() {
        let shared = node(vec![gpu(1), gpu(2)], SHARED);
        let cut = node(vec![cut(1, &["1g.5gb"; 3]), cut(2, &["1g.5gb"; 3])], "flags: {migStrategy: single}");
        use AllocationPolicy::{Distributed, Packed};
        for (what, policy, available, must, size, expected) in [
            ("the one that nobody uses", Distributed, &[1, 2, 3, 4, 5][..], &[][..], 1, &[3][..]),
            ("one of each", Distributed, &[0, 1, 2, 3, 4, 5], &[], 2, &[0, 3]),
            ("beside what there must be", Distributed, &[0, 1, 2, 3, 4, 5], &[4], 2, &[4, 0]),
            ("the one that is in use", Packed, &[1, 2, 3, 4, 5], &[], 1, &[1]),
            ("full, and then the next", Packed, &[0, 1, 2, 4, 5], &[], 3, &[4, 5, 0]),
            ("more than there are", Packed, &[2], &[], 3, &[2]),
        ] {
            for (name, (inventory, resource)) in [("replicas", &shared), ("partitions", &cut)] {
                let (available, must) = (ids(resource, available), ids(resource, must));
                let found = preferred(resource, inventory, policy, &available, &must, size);
                assert_eq!(found, ids(resource, expected), "{name}: {what}");
            }
        }
    }

    #[test]
    fn whole_accelerators_lie_together() {
        let (inventory, resource) = node(vec![gpu(1), gpu(2), gpu(8), gpu(9), gpu(10)], "");
        let found = |available: &[usize], must: &[usize], size| {
            let (available, must) = (ids(&resource, available), ids(&resource, must));
            preferred(&resource, &inventory, AllocationPolicy::Distributed, &available, &must, size)
        };
        assert_eq!(found(&[0, 1, 2, 3, 4], &[], 2), ids(&resource, &[0, 1]), "the other node stays whole");
        assert_eq!(found(&[0, 1, 2, 3, 4], &[], 3), ids(&resource, &[2, 3, 4]));
        assert_eq!(found(&[0, 1, 2, 3, 4], &[0], 2), ids(&resource, &[0, 1]));
        assert_eq!(found(&[0, 4], &[], 3), ids(&resource, &[0, 4]), "the kubelet fills up");
    }

    proptest! {
        #[test]
        fn the_kubelet_is_answered_with_what_it_asked_for(
            config in prop_oneof![Just(""), Just(SHARED)],
            chance in proptest::collection::vec(0_u8..4, 48),
            size in 0_usize..20,
            packed in any::<bool>(),
        ) {
            let (inventory, resource) = node((0..16).map(gpu).collect(), config);
            let at = |wanted: &[u8]| -> Vec<usize> {
                (0..resource.devices.len()).filter(|at| wanted.contains(&chance[*at])).collect()
            };
            let available = ids(&resource, &at(&[1, 2, 3]));
            let must: Vec<_> = ids(&resource, &at(&[3])).into_iter().take(size).collect();
            let policy = if packed { AllocationPolicy::Packed } else { AllocationPolicy::Distributed };
            let found = preferred(&resource, &inventory, policy, &available, &must, size);
            prop_assert_eq!(found.len(), size.min(available.len()));
            prop_assert!(must.iter().all(|id| found.contains(id)));
            prop_assert!(found.iter().all(|id| available.contains(id)));
            let different: BTreeSet<_> = found.iter().collect();
            prop_assert_eq!(different.len(), found.len());
        }
    }
}
