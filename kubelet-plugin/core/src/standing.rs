use std::collections::{BTreeMap, BTreeSet};

use crate::{ClaimError, ClaimObject, ClaimRef, ClaimUid, Identity, Ledger, Record, allocations};

/// Whether the API server still knows a prepared claim as one of this node's. `object` is what it has under the claim's
/// name, if anything.
///
/// A claim that was deallocated, or allocated elsewhere since, is as gone as one that was deleted: the scheduler may give
/// its devices away.
pub fn stands(claim: &ClaimRef, object: Option<&ClaimObject>, identity: &Identity) -> bool {
    let Some(object) = object else { return false };
    match allocations(object, claim, identity) {
        Ok(granted) => !granted.allocations.is_empty(),
        Err(ClaimError::Replaced { .. } | ClaimError::NotAllocated(_) | ClaimError::ForeignPool { .. }) => false,
    }
}

/// Which claims the kubelet's pods use, by namespace and name, and which devices of the driver through them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InUse(BTreeMap<(String, String), BTreeSet<String>>);

impl InUse {
    /// Adds a device of a claim, by its name in the pool.
    pub fn insert(&mut self, namespace: String, name: String, device: String) {
        self.0.entry((namespace, name)).or_default().insert(device);
    }

    /// Whether pods use what was prepared. A claim of the same name with other devices is another one: the kubelet does
    /// not tell their UIDs.
    pub fn covers(&self, record: &Record) -> bool {
        self.0
            .get(&record.claim.full_name())
            .is_some_and(|devices| record.devices.iter().any(|prepared| devices.contains(prepared.device.as_str())))
    }

    /// The claims that pods use and the ledger does not know.
    pub fn without_record(&self, ledger: &Ledger) -> BTreeSet<(String, String)> {
        let known: BTreeSet<_> = ledger.records().map(|record| record.claim.full_name()).collect();
        self.0.keys().filter(|name| !known.contains(name)).cloned().collect()
    }
}

/// What may be wrong, from one round of comparison to the next. Only what two rounds in a row say is acted upon: a claim
/// may be on its way from one state to the other.
#[derive(Clone, Debug, Default)]
pub struct Doubts {
    gone: BTreeSet<ClaimUid>,
    lost: BTreeSet<(String, String)>,
}

impl Doubts {
    /// Prepared claims to undo: gone in this round and in the one before.
    pub fn orphans(&mut self, gone: BTreeSet<ClaimUid>) -> BTreeSet<ClaimUid> {
        let orphans = &self.gone & &gone;
        self.gone = gone;
        orphans
    }

    /// Claims, by namespace and name, whose records must be made anew: pods used them without a record in this round and
    /// in the one before.
    pub fn recordless(&mut self, used: BTreeSet<(String, String)>) -> BTreeSet<(String, String)> {
        let recordless = &self.lost & &used;
        self.lost = used;
        recordless
    }

    /// The record of a claim was made anew. If there is none in the next round again, then because the claim was undone
    /// since: that is another doubt, and the first of its kind.
    pub fn made_anew(&mut self, claim: &(String, String)) {
        self.lost.remove(claim);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{claim_ref, gpu, identity, ledger, record};

    fn object(uid: &str, pool: Option<&str>) -> ClaimObject {
        let result =
            |pool| json!({"request": "gpu", "driver": "gpu.nvidia.com", "pool": pool, "device": gpu(1).name()});
        let status = pool.map(|pool| json!({"allocation": {"devices": {"results": [result(pool)]}}}));
        let metadata = json!({"namespace": "team", "name": "training", "uid": uid});
        serde_json::from_value(json!({"metadata": metadata, "spec": {}, "status": status})).unwrap()
    }

    #[test]
    fn a_claim_stands_as_long_as_it_has_a_device_of_this_node() {
        let own = identity().pool();
        for (what, object, expected) in [
            ("deleted", None, false),
            ("as it was", Some(object("uid-1", Some(&own))), true),
            ("made anew", Some(object("uid-2", Some(&own))), false),
            ("deallocated", Some(object("uid-1", None)), false),
            ("allocated elsewhere", Some(object("uid-1", Some("node-2/gpu.nvidia.com"))), false),
        ] {
            assert_eq!(stands(&claim_ref("uid-1"), object.as_ref(), &identity()), expected, "{what}");
        }
    }

    #[test]
    fn what_pods_use_is_told_apart_by_name_and_device() {
        let mut in_use = InUse::default();
        in_use.insert("team".to_owned(), "training".to_owned(), gpu(1).name().to_string());
        assert!(in_use.covers(&record("uid-1", 1)));
        assert!(!in_use.covers(&record("uid-2", 2)), "an earlier claim of the same name");
        assert_eq!(in_use.without_record(&ledger([record("uid-2", 2)])), BTreeSet::new());
        let lost = BTreeSet::from([("team".to_owned(), "training".to_owned())]);
        assert_eq!(in_use.without_record(&Ledger::default()), lost);
    }

    #[test]
    fn only_what_two_rounds_say_is_acted_upon() {
        let set = |uids: &[&str]| -> BTreeSet<ClaimUid> { uids.iter().map(|uid| uid.parse().unwrap()).collect() };
        let mut doubts = Doubts::default();
        assert_eq!(doubts.orphans(set(&["a", "b"])), set(&[]));
        assert_eq!(doubts.orphans(set(&["b", "c"])), set(&["b"]));
        assert_eq!(doubts.orphans(set(&[])), set(&[]));
        assert_eq!(doubts.orphans(set(&["c"])), set(&[]), "it stood in between");
    }

    #[test]
    fn a_claim_whose_record_was_made_anew_is_not_lost_at_its_end() {
        let claim = |name: &str| ("team".to_owned(), name.to_owned());
        let claims = |names: &[&str]| -> BTreeSet<_> { names.iter().map(|name| claim(name)).collect() };
        let mut doubts = Doubts::default();
        assert_eq!(doubts.recordless(claims(&["a", "b"])), claims(&[]));
        // What could not be read is made anew at once, and undone before the next round, in which the kubelet lists it still.
        doubts.made_anew(&claim("a"));
        assert_eq!(doubts.recordless(claims(&["a", "b"])), claims(&["b"]));
        assert_eq!(doubts.recordless(claims(&["a"])), claims(&["a"]), "it is used, and nobody undid it meanwhile");
    }
}
