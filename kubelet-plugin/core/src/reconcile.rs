use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::{Device, DeviceTaint, ResourcePool, ResourceSlice, ResourceSliceSpec};

use crate::parse_quantity;

/// One change to the API server's slices.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Delete a slice that no longer belongs to the pool, if it is still the one that was seen.
    Delete(ResourceSlice),
    /// Put a slice in the place of the one that was seen (its resourceVersion is set).
    Update(ResourceSlice),
    /// Add a slice.
    Create(ResourceSlice),
}

/// The writes that turn the slices of a pool as they are into those that should be; none when nothing has changed.
///
/// The generation of the pool stays when one write is all it takes, since that is atomic anyway. Else it rises and
/// all slices are written, so that a scheduler never mixes old and new ones. The order keeps the pool complete for
/// as long as possible: first what is too much goes, then what changed, then what is new.
pub fn reconcile<'a>(desired: Vec<ResourceSlice>, actual: impl IntoIterator<Item = &'a ResourceSlice>) -> Vec<Write> {
    let actual: Vec<_> = actual.into_iter().collect();
    let by_name: BTreeMap<&str, &ResourceSlice> =
        actual.iter().filter_map(|slice| Some((name(slice)?, *slice))).collect();
    let wanted = |slice: &ResourceSlice| desired.iter().any(|other| name(other) == name(slice));
    let unwanted = actual.iter().filter(|slice| !wanted(slice));
    let deletions: Vec<_> = unwanted.map(|slice| Write::Delete((*slice).clone())).collect();

    let highest = actual.iter().map(|slice| slice.spec.pool.generation).max().unwrap_or(0);
    let current = |slice: &ResourceSlice| name(slice).and_then(|name| by_name.get(name).copied());
    let same = |slice: &ResourceSlice| {
        current(slice).is_some_and(|current| current.spec.pool.generation == highest && equal(slice, current))
    };
    let changed = desired.iter().filter(|slice| !same(slice)).count();
    let created = desired.iter().filter(|slice| current(slice).is_none()).count();
    if changed == 0 {
        return deletions;
    }
    let at_once = changed == 1 && (created == 0 || desired.len() == 1);
    // A pool that is new to the server begins with generation 1, as Kubernetes' own helper does.
    let generation = if at_once { highest.max(1) } else { highest + 1 };

    let (mut updates, mut creations) = (Vec::new(), Vec::new());
    for mut slice in desired {
        if at_once && same(&slice) {
            continue;
        }
        slice.spec.pool.generation = generation;
        match current(&slice) {
            Some(current) => {
                slice.metadata.resource_version.clone_from(&current.metadata.resource_version);
                keep_times(&mut slice, current);
                updates.push(Write::Update(slice));
            }
            None => creations.push(Write::Create(slice)),
        }
    }
    deletions.into_iter().chain(updates).chain(creations).collect()
}

fn name(slice: &ResourceSlice) -> Option<&str> {
    slice.metadata.name.as_deref()
}

/// Whether two slices say the same: the generation, the server's metadata and the time of a taint say nothing. Looked at
/// every few seconds: no more than one device is copied at a time.
fn equal(one: &ResourceSlice, other: &ResourceSlice) -> bool {
    one.metadata.owner_references == other.metadata.owner_references
        && said_of_all(&one.spec) == said_of_all(&other.spec)
        && said_of_each(&one.spec).eq(said_of_each(&other.spec))
}

/// What a slice says besides its devices. Names each field, so that none is forgotten that comes with a new version.
fn said_of_all(spec: &ResourceSliceSpec) -> impl PartialEq + '_ {
    let ResourceSliceSpec {
        all_nodes,
        devices: _,
        driver,
        node_name,
        node_selector,
        partition_type_attribute,
        per_device_node_selection,
        pool: ResourcePool { generation: _, name, resource_slice_count },
        shared_counters,
        skip_node_operations,
    } = spec;
    let nodes = (all_nodes, node_name, node_selector, per_device_node_selection);
    let handling = (partition_type_attribute, skip_node_operations);
    (driver, nodes, name, resource_slice_count, shared_counters, handling)
}

fn said_of_each(spec: &ResourceSliceSpec) -> impl Iterator<Item = Device> + '_ {
    spec.devices.iter().flatten().cloned().map(|mut device| {
        normalise(&mut device);
        device
    })
}

/// The API server stores an empty list or map as absent, and a quantity in one of its many spellings.
fn normalise(device: &mut Device) {
    device.attributes.take_if(|attributes| attributes.is_empty());
    device.capacity.take_if(|capacity| capacity.is_empty());
    device.taints.take_if(|taints| taints.is_empty());
    for taint in device.taints.iter_mut().flatten() {
        taint.time_added = None;
    }
    for capacity in device.capacity.iter_mut().flat_map(BTreeMap::values_mut) {
        if let Some(value) = parse_quantity(&capacity.value) {
            capacity.value.0 = value.to_string();
        }
    }
}

/// A taint that was there keeps the time at which it came.
fn keep_times(slice: &mut ResourceSlice, current: &ResourceSlice) {
    let same = |one: &DeviceTaint, other: &DeviceTaint| {
        (&one.key, &one.value, &one.effect) == (&other.key, &other.value, &other.effect)
    };
    for device in slice.spec.devices.iter_mut().flatten() {
        let before = current.spec.devices.iter().flatten().find(|before| before.name == device.name);
        for taint in device.taints.iter_mut().flatten() {
            let known =
                before.iter().flat_map(|before| before.taints.iter().flatten()).find(|known| same(known, taint));
            taint.time_added = known.and_then(|known| known.time_added.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{gpus, pool};
    use crate::{Features, Ledger, slices};

    fn desired(buses: &[u8]) -> Vec<ResourceSlice> {
        slices(&pool(), &gpus(buses), Features::default(), &Ledger::default())
    }

    /// What a server would hold after these writes.
    fn apply(actual: &[ResourceSlice], writes: &[Write]) -> Vec<ResourceSlice> {
        let mut slices: BTreeMap<String, ResourceSlice> =
            actual.iter().map(|slice| (slice.metadata.name.clone().unwrap(), slice.clone())).collect();
        for write in writes {
            match write {
                Write::Delete(slice) => assert!(slices.remove(slice.metadata.name.as_ref().unwrap()).is_some()),
                Write::Update(slice) | Write::Create(slice) => {
                    let mut stored = slice.clone();
                    stored.metadata.resource_version = Some("7".to_owned());
                    let was_there = slices.insert(slice.metadata.name.clone().unwrap(), stored).is_some();
                    assert_eq!(was_there, matches!(write, Write::Update(_)));
                }
            }
        }
        slices.into_values().collect()
    }

    fn generations(slices: &[ResourceSlice]) -> Vec<i64> {
        slices.iter().map(|slice| slice.spec.pool.generation).collect()
    }

    #[test]
    fn nothing_changed_writes_nothing() {
        let actual = apply(&[], &reconcile(desired(&[1, 2]), &[]));
        assert_eq!(generations(&actual), [1]);
        assert_eq!(reconcile(desired(&[1, 2]), &actual), []);
    }

    #[test]
    fn the_servers_spelling_is_no_change() {
        let mut actual = apply(&[], &reconcile(desired(&[1]), &[]));
        let device = &mut actual[0].spec.devices.as_mut().unwrap()[0];
        device.taints = Some(Vec::new());
        for capacity in device.capacity.iter_mut().flat_map(BTreeMap::values_mut) {
            capacity.value.0 = "85520809984".to_owned();
        }
        assert_eq!(reconcile(desired(&[1]), &actual), []);
    }

    #[test]
    fn one_changed_slice_is_one_write_in_the_same_generation() {
        let actual = apply(&[], &reconcile(desired(&[1, 2]), &[]));
        let writes = reconcile(desired(&[1, 2, 3]), &actual);
        assert!(
            matches!(&writes[..], [Write::Update(slice)] if slice.metadata.resource_version.as_deref() == Some("7"))
        );
        assert_eq!(generations(&apply(&actual, &writes)), [1]);
    }

    #[test]
    fn a_change_of_several_slices_is_a_new_generation_of_all() {
        let few: Vec<u8> = (0..60).collect();
        let many: Vec<u8> = (0..150).collect();
        let actual = apply(&[], &reconcile(desired(&few), &[]));
        let grown = apply(&actual, &reconcile(desired(&many), &actual));
        assert_eq!(generations(&grown), [2, 2, 2]);
        let writes = reconcile(desired(&few), &grown);
        assert!(matches!(writes[..], [Write::Delete(_), Write::Delete(_), Write::Update(_)]), "too many go first");
    }

    #[test]
    fn a_deleted_slice_is_made_anew() {
        let many: Vec<u8> = (0..150).collect();
        let mut actual = apply(&[], &reconcile(desired(&many), &[]));
        actual.remove(1);
        let repaired = apply(&actual, &reconcile(desired(&many), &actual));
        assert_eq!(generations(&repaired), [2, 2, 2]);
        let writes = reconcile(desired(&[1]), &[]);
        assert!(matches!(&writes[..], [Write::Create(_)]));
    }

    #[test]
    fn a_node_that_was_made_anew_owns_its_slices() {
        let mut actual = apply(&[], &reconcile(desired(&[1]), &[]));
        actual[0].metadata.owner_references.as_mut().unwrap()[0].uid = "the old node".to_owned();
        assert!(matches!(&reconcile(desired(&[1]), &actual)[..], [Write::Update(_)]));
    }

    proptest! {
        #[test]
        fn the_writes_lead_to_what_is_desired(before in 0_u8..200, after in 0_u8..200, missing in 0_usize..4) {
            let (before, after): (Vec<u8>, Vec<u8>) = ((0..before).collect(), (0..after).collect());
            let mut actual = apply(&[], &reconcile(desired(&before), &[]));
            if missing < actual.len() {
                actual.remove(missing);
            }
            let end = apply(&actual, &reconcile(desired(&after), &actual));
            prop_assert_eq!(end.len(), desired(&after).len());
            prop_assert!(generations(&end).windows(2).all(|pair| pair[0] == pair[1]), "one generation");
            prop_assert_eq!(reconcile(desired(&after), &end), Vec::new(), "and then there is nothing left to write");
        }
    }
}
