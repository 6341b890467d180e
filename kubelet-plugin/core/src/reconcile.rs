use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::ResourceSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::Seen;
use crate::seen::Said;

/// One change to the API server's slices.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Delete a slice that no longer belongs to the pool, if it is still the one that was seen.
    Delete(ObjectMeta),
    /// Put a slice in the place of the one that was seen (its resourceVersion is set).
    Update(ResourceSlice),
    /// Add a slice.
    Create(ResourceSlice),
}

impl Write {
    /// Which slice it is about, and of which version.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Delete(metadata) => metadata,
            Self::Update(slice) | Self::Create(slice) => &slice.metadata,
        }
    }

    /// What is to be stored.
    pub fn slice(&self) -> Option<&ResourceSlice> {
        match self {
            Self::Delete(_) => None,
            Self::Update(slice) | Self::Create(slice) => Some(slice),
        }
    }
}

/// The writes that turn the slices of a pool as they are into those that should be; none when nothing has changed.
///
/// The generation of the pool stays when one write is all it takes, since that is atomic anyway. Else it rises and
/// all slices are written, so that a scheduler never mixes old and new ones. The order keeps the pool complete for
/// as long as possible: first what is too much goes, then what changed, then what is new.
pub fn reconcile<'a>(mut desired: Vec<ResourceSlice>, actual: impl IntoIterator<Item = &'a Seen>) -> Vec<Write> {
    let actual: BTreeMap<&str, &Seen> = actual.into_iter().map(|seen| (seen.name(), seen)).collect();
    let unwanted = actual.values().filter(|seen| !desired.iter().any(|slice| name(slice) == seen.name()));
    let deletions: Vec<_> = unwanted.map(|seen| Write::Delete(seen.metadata().clone())).collect();

    let highest = actual.values().map(|seen| seen.generation()).max().unwrap_or(0);
    let current = |slice: &ResourceSlice| actual.get(name(slice)).copied();
    let mut same = |slice: &mut ResourceSlice| {
        let said = Said::by(slice);
        let owners = slice.metadata.owner_references.as_ref();
        current(slice).is_some_and(|seen| seen.generation() == highest && seen.says(said.as_ref(), owners))
    };
    let same: Vec<bool> = desired.iter_mut().map(&mut same).collect();
    let changed = same.iter().filter(|same| !**same).count();
    let created = desired.iter().filter(|slice| current(slice).is_none()).count();
    if changed == 0 {
        return deletions;
    }
    let at_once = changed == 1 && (created == 0 || desired.len() == 1);
    // A pool that is new to the server begins with generation 1, as Kubernetes' own helper does.
    let generation = if at_once { highest.max(1) } else { highest + 1 };

    let (mut updates, mut creations) = (Vec::new(), Vec::new());
    for (mut slice, same) in desired.into_iter().zip(same) {
        if at_once && same {
            continue;
        }
        slice.spec.pool.generation = generation;
        match current(&slice) {
            Some(seen) => {
                slice.metadata.resource_version.clone_from(&seen.metadata().resource_version);
                keep_times(&mut slice, seen);
                updates.push(Write::Update(slice));
            }
            None => creations.push(Write::Create(slice)),
        }
    }
    deletions.into_iter().chain(updates).chain(creations).collect()
}

fn name(slice: &ResourceSlice) -> &str {
    slice.metadata.name.as_deref().unwrap_or_default()
}

/// A taint that was there keeps the time at which it came.
fn keep_times(slice: &mut ResourceSlice, seen: &Seen) {
    for device in slice.spec.devices.iter_mut().flatten() {
        for taint in device.taints.iter_mut().flatten() {
            taint.time_added = seen.time(&device.name, taint).cloned();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{gpus, pool};
    use crate::{Features, Ledger, slices};

    fn reconcile(desired: Vec<ResourceSlice>, actual: &[ResourceSlice]) -> Vec<Write> {
        super::reconcile(desired, &actual.iter().cloned().map(Seen::from).collect::<Vec<_>>())
    }

    fn desired(buses: &[u8]) -> Vec<ResourceSlice> {
        slices(&pool(), &gpus(buses), Features::default(), &Ledger::default())
    }

    /// What a server would hold after these writes.
    fn apply(actual: &[ResourceSlice], writes: &[Write]) -> Vec<ResourceSlice> {
        let mut slices: BTreeMap<String, ResourceSlice> =
            actual.iter().map(|slice| (slice.metadata.name.clone().unwrap(), slice.clone())).collect();
        for write in writes {
            match write {
                Write::Delete(metadata) => assert!(slices.remove(metadata.name.as_ref().unwrap()).is_some()),
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
