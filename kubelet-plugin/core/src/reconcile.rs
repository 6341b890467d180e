use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::ResourceSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::seen::Said;
use crate::{Seen, Slices};

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

/// The writes that turn the slices of a pool as they are into those that should be; none when nothing has changed. Each slice is
/// made when its turn comes.
///
/// The generation of the pool stays when one write is all it takes, since that is atomic anyway. Else it rises and
/// all slices are written, so that a scheduler never mixes old and new ones. The order keeps the pool complete for
/// as long as possible: first what is too much goes, then what changed, then what is new.
pub fn reconcile<'a>(desired: &'a Slices<'a>, actual: &[&Seen]) -> impl Iterator<Item = Write> + use<'a> {
    let mut unwanted: BTreeMap<&str, &Seen> = actual.iter().map(|seen| (seen.name(), *seen)).collect();
    let highest = actual.iter().map(|seen| seen.generation()).max().unwrap_or(0);
    let current: Vec<_> = (0..desired.len()).map(|index| unwanted.remove(&*desired.name(index))).collect();
    let deletions: Vec<_> = unwanted.values().map(|seen| Write::Delete(seen.metadata().clone())).collect();

    let same = |(index, seen): (usize, &Option<&Seen>)| {
        seen.filter(|seen| seen.generation() == highest).is_some_and(|seen| {
            let mut slice = desired.slice(index);
            let said = Said::by(&mut slice);
            seen.says(said.as_ref(), slice.metadata.owner_references.as_ref())
        })
    };
    let same: Vec<bool> = current.iter().enumerate().map(same).collect();
    let changed = same.iter().filter(|same| !**same).count();
    let created = current.iter().filter(|seen| seen.is_none()).count();
    let at_once = changed == 1 && (created == 0 || desired.len() == 1);
    // A pool that is new to the server begins with generation 1, as Kubernetes' own helper does.
    let generation = if at_once { highest.max(1) } else { highest + 1 };

    let to_write = |(_, is_same): &(_, bool)| changed > 0 && !(at_once && *is_same);
    let to_write = current.into_iter().enumerate().zip(same).filter(to_write);
    let to_write = to_write.map(|((index, seen), _)| (index, seen.cloned()));
    let (updates, creations): (Vec<_>, Vec<_>) = to_write.partition(|(_, seen)| seen.is_some());
    let write = move |(index, seen): (usize, Option<Seen>)| {
        let mut slice = desired.slice(index);
        slice.spec.pool.generation = generation;
        match seen {
            Some(seen) => {
                slice.metadata.resource_version.clone_from(&seen.metadata().resource_version);
                keep_times(&mut slice, &seen);
                Write::Update(slice)
            }
            None => Write::Create(slice),
        }
    };
    deletions.into_iter().chain(updates.into_iter().chain(creations).map(write))
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
    use crate::{Features, Ledger};

    /// The writes that lead to the slices of a node with GPUs on these buses.
    fn reconcile(buses: &[u8], actual: &[ResourceSlice]) -> Vec<Write> {
        let (pool, inventory, ledger) = (pool(), gpus(buses), Ledger::default());
        let desired = Slices::new(&pool, &inventory, Features::default(), &ledger);
        let actual: Vec<_> = actual.iter().cloned().map(Seen::from).collect();
        super::reconcile(&desired, &actual.iter().collect::<Vec<_>>()).collect()
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
        let actual = apply(&[], &reconcile(&[1, 2], &[]));
        assert_eq!(generations(&actual), [1]);
        assert_eq!(reconcile(&[1, 2], &actual), []);
    }

    #[test]
    fn the_servers_spelling_is_no_change() {
        let mut actual = apply(&[], &reconcile(&[1], &[]));
        let device = &mut actual[0].spec.devices.as_mut().unwrap()[0];
        device.taints = Some(Vec::new());
        for capacity in device.capacity.iter_mut().flat_map(BTreeMap::values_mut) {
            capacity.value.0 = "85520809984".to_owned();
        }
        assert_eq!(reconcile(&[1], &actual), []);
    }

    #[test]
    fn one_changed_slice_is_one_write_in_the_same_generation() {
        let actual = apply(&[], &reconcile(&[1, 2], &[]));
        let writes = reconcile(&[1, 2, 3], &actual);
        assert!(
            matches!(&writes[..], [Write::Update(slice)] if slice.metadata.resource_version.as_deref() == Some("7"))
        );
        assert_eq!(generations(&apply(&actual, &writes)), [1]);
    }

    #[test]
    fn a_change_of_several_slices_is_a_new_generation_of_all() {
        let few: Vec<u8> = (0..60).collect();
        let many: Vec<u8> = (0..150).collect();
        let actual = apply(&[], &reconcile(&few, &[]));
        let grown = apply(&actual, &reconcile(&many, &actual));
        assert_eq!(generations(&grown), [2, 2, 2]);
        let writes = reconcile(&few, &grown);
        assert!(matches!(writes[..], [Write::Delete(_), Write::Delete(_), Write::Update(_)]), "too many go first");
    }

    #[test]
    fn a_deleted_slice_is_made_anew() {
        let many: Vec<u8> = (0..150).collect();
        let mut actual = apply(&[], &reconcile(&many, &[]));
        actual.remove(1);
        let repaired = apply(&actual, &reconcile(&many, &actual));
        assert_eq!(generations(&repaired), [2, 2, 2]);
        let writes = reconcile(&[1], &[]);
        assert!(matches!(&writes[..], [Write::Create(_)]));
    }

    #[test]
    fn a_node_that_was_made_anew_owns_its_slices() {
        let mut actual = apply(&[], &reconcile(&[1], &[]));
        actual[0].metadata.owner_references.as_mut().unwrap()[0].uid = "the old node".to_owned();
        assert!(matches!(&reconcile(&[1], &actual)[..], [Write::Update(_)]));
    }

    proptest! {
        #[test]
        fn the_writes_lead_to_what_is_desired(before in 0_u8..200, after in 0_u8..200, missing in 0_usize..4) {
            let (before, after): (Vec<u8>, Vec<u8>) = ((0..before).collect(), (0..after).collect());
            let mut actual = apply(&[], &reconcile(&before, &[]));
            if missing < actual.len() {
                actual.remove(missing);
            }
            let end = apply(&actual, &reconcile(&after, &actual));
            prop_assert_eq!(end.len(), after.len().div_ceil(64).max(1));
            prop_assert!(generations(&end).windows(2).all(|pair| pair[0] == pair[1]), "one generation");
            prop_assert_eq!(reconcile(&after, &end), Vec::new(), "and then there is nothing left to write");
        }
    }
}
