//! What the kubelet knows of claims on its node. Who may do what with them when is decided here, without any call.

use std::collections::{BTreeMap, BTreeSet};

use tessera_kubelet_api::dra_v1;

use super::answers::Asked;
use super::pod::PreparedClaim;
use super::problem::Problem;
use super::version::Version;

/// Namespace and name: the kubelet finds claims by these, and compares UIDs only to notice that a claim was replaced.
pub(super) type Key = (String, String);

/// A claim as the API server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Allocated {
    pub(super) key: Key,
    pub(super) uid: String,
    /// The requests, without subrequests, that each driver's devices are for.
    pub(super) drivers: BTreeMap<String, Vec<String>>,
}

/// A claim that pods of this node use.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ClaimInfo {
    pub(super) uid: String,
    /// The UIDs of the pods.
    pub(super) pods: BTreeSet<String>,
    pub(super) drivers: BTreeMap<String, DriverState>,
    /// Only in memory: after a restart every claim is prepared again when a pod needs a new sandbox.
    prepared: bool,
    /// Being undone, or that failed.
    unpreparing: bool,
}

/// What a driver has to do with a claim.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct DriverState {
    pub(super) requests: Vec<String>,
    pub(super) devices: Vec<dra_v1::Device>,
}

impl ClaimInfo {
    /// As it comes out of the checkpoint.
    pub(super) fn new(uid: String, pods: BTreeSet<String>, drivers: BTreeMap<String, DriverState>) -> Self {
        Self { uid, pods, drivers, prepared: false, unpreparing: false }
    }
}

/// Every claim that is in use, by name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ClaimInfos {
    version: Version,
    pub(super) by_key: BTreeMap<Key, ClaimInfo>,
}

/// Work for drivers: which claims each is asked about, in the order of the pod.
pub(super) type Batches = BTreeMap<String, Vec<Asked>>;

impl ClaimInfos {
    pub(super) fn new(version: Version, by_key: BTreeMap<Key, ClaimInfo>) -> Self {
        Self { version, by_key }
    }

    /// Notes that a pod uses claims, all of them or, on a problem, none.
    pub(super) fn reserve(&mut self, pod: &str, claims: &[Allocated]) -> Result<(), Problem> {
        for claim in claims {
            let Some(info) = self.by_key.get(&claim.key) else { continue };
            let name = claim.key.1.clone();
            if info.uid != claim.uid {
                return Err(Problem::OldClaim { claim: name, old: info.uid.clone() });
            }
            if info.unpreparing && self.version.waits_for_unprepare() {
                return Err(Problem::BeingUnprepared(name));
            }
        }
        for claim in claims {
            let drivers = claim.drivers.iter().map(|(driver, requests)| {
                (driver.clone(), DriverState { requests: requests.clone(), devices: Vec::new() })
            });
            let unknown = || ClaimInfo::new(claim.uid.clone(), BTreeSet::new(), drivers.collect());
            self.by_key.entry(claim.key.clone()).or_insert_with(unknown).pods.insert(pod.to_owned());
        }
        Ok(())
    }

    /// What the drivers have to prepare: each gets all its claims in one call.
    pub(super) fn to_prepare(&self, claims: &[Allocated]) -> Batches {
        let infos = claims.iter().filter_map(|claim| Some((&claim.key, self.by_key.get(&claim.key)?)));
        batches(infos.filter(|(_, info)| !info.prepared))
    }

    /// Takes down what a driver answered with, by claim UID.
    pub(super) fn answered(&mut self, driver: &str, mut devices: BTreeMap<String, Vec<dra_v1::Device>>) {
        for info in self.by_key.values_mut() {
            let (Some(state), Some(mut answer)) = (info.drivers.get_mut(driver), devices.remove(&info.uid)) else {
                continue;
            };
            if !self.version.knows_share_ids() {
                answer.iter_mut().for_each(|device| device.share_id = None);
            }
            if self.version.replaces_devices() {
                state.devices.clear();
            }
            state.devices.extend(answer);
        }
    }

    /// Notes that every driver of these claims has answered, and gives them back.
    pub(super) fn prepared(&mut self, claims: &[Allocated]) -> Vec<PreparedClaim> {
        for claim in claims {
            if let Some(info) = self.by_key.get_mut(&claim.key) {
                info.prepared = true;
            }
        }
        let infos = claims.iter().filter_map(|claim| Some((claim, self.by_key.get(&claim.key)?)));
        let prepared = infos.map(|(claim, info)| PreparedClaim {
            name: claim.key.1.clone(),
            uid: claim.uid.clone(),
            drivers: info.drivers.iter().map(|(driver, state)| (driver.clone(), state.devices.clone())).collect(),
        });
        prepared.collect()
    }

    /// Takes a pod that ended off its claims. What it was the last user of is to be unprepared: the claims, and the work
    /// for their drivers. `named` are the claims in the pod's spec.
    pub(super) fn release(&mut self, pod: &str, named: &[Key]) -> (Vec<Key>, Batches) {
        let only_users = self.version.unprepares_only_for_users();
        let mut last = Vec::new();
        for (key, info) in &mut self.by_key {
            let uses = info.pods.contains(pod);
            if !(if only_users { uses } else { named.contains(key) }) {
                continue;
            }
            if info.pods.len() > 1 {
                info.pods.remove(pod);
            } else {
                info.unpreparing = true;
                last.push(key.clone());
            }
        }
        let infos = last.iter().filter_map(|key| Some((key, self.by_key.get(key)?)));
        let batches = batches(infos);
        (last, batches)
    }

    /// Forgets claims that every driver has undone.
    pub(super) fn unprepared(&mut self, keys: &[Key]) {
        self.by_key.retain(|key, _| !keys.contains(key));
    }

    /// The pods that are not active any more, each with the claims that it still holds.
    pub(super) fn left_behind(&self, active: &BTreeSet<String>) -> BTreeMap<String, Vec<Key>> {
        let mut pods = BTreeMap::<String, Vec<Key>>::new();
        for (key, info) in &self.by_key {
            for pod in info.pods.difference(active) {
                pods.entry(pod.clone()).or_default().push(key.clone());
            }
        }
        pods
    }
}

fn batches<'a>(infos: impl Iterator<Item = (&'a Key, &'a ClaimInfo)>) -> Batches {
    let mut batches = Batches::new();
    for ((namespace, name), info) in infos {
        for (driver, state) in &info.drivers {
            let (uid, requests) = (info.uid.clone(), state.requests.clone());
            let asked = Asked { uid, name: name.clone(), namespace: namespace.clone(), requests };
            batches.entry(driver.clone()).or_default().push(asked);
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("team".to_owned(), name.to_owned())
    }

    fn claim(name: &str, drivers: &[&str]) -> Allocated {
        let drivers = drivers.iter().map(|driver| ((*driver).to_owned(), vec!["gpu".to_owned()]));
        Allocated { key: key(name), uid: format!("uid-of-{name}"), drivers: drivers.collect() }
    }

    fn empty(version: Version) -> ClaimInfos {
        ClaimInfos::new(version, BTreeMap::new())
    }

    fn names(batches: &Batches) -> Vec<(&str, Vec<&str>)> {
        let mut found = Vec::new();
        for (driver, asked) in batches {
            found.push((driver.as_str(), asked.iter().map(|claim| claim.name.as_str()).collect()));
        }
        found
    }

    fn answer(infos: &mut ClaimInfos, driver: &str, claim: &Allocated, device: &str) {
        let share_id = Some("share".to_owned());
        let device = dra_v1::Device { device_name: device.to_owned(), share_id, ..dra_v1::Device::default() };
        infos.answered(driver, [(claim.uid.clone(), vec![device])].into());
    }

    #[test]
    fn a_driver_gets_what_is_not_prepared_in_one_batch() {
        let mut infos = empty(Version::V1_37);
        let (a, b, c) = (claim("a", &["gpu", "nic"]), claim("b", &["gpu"]), claim("c", &[]));
        infos.reserve("pod-1", std::slice::from_ref(&b)).unwrap();
        infos.prepared(std::slice::from_ref(&b));
        let again = claim("d", &["gpu"]);
        let claims = [again, b, a, c];
        infos.reserve("pod-2", &claims).unwrap();
        assert_eq!(names(&infos.to_prepare(&claims)), [("gpu", vec!["d", "a"]), ("nic", vec!["a"])]);
        infos.prepared(&claims);
        assert_eq!(names(&infos.to_prepare(&claims)), []);
    }

    #[test]
    fn a_claim_is_undone_with_its_last_pod() {
        for version in Version::ALL {
            let mut infos = empty(version);
            let shared = [claim("shared", &["gpu"])];
            for pod in ["pod-1", "pod-2"] {
                infos.reserve(pod, &shared).unwrap();
            }
            assert_eq!(infos.release("pod-1", &[key("shared")]), (Vec::new(), Batches::new()), "{version:?}");
            let (keys, batches) = infos.release("pod-2", &[key("shared")]);
            assert_eq!((keys.as_slice(), names(&batches)), ([key("shared")].as_slice(), vec![("gpu", vec!["shared"])]));
            // It failed; the next try finds the same.
            assert_eq!(infos.release("pod-2", &[key("shared")]), (keys.clone(), batches), "{version:?}");
            infos.unprepared(&keys);
            assert_eq!(infos, empty(version));
        }
    }

    #[test]
    fn what_versions_do_differently() {
        for version in Version::ALL {
            let mut infos = empty(version);
            let claims = [claim("a", &["gpu"])];
            infos.reserve("user", &claims).unwrap();
            answer(&mut infos, "gpu", &claims[0], "gpu-0");
            // Another driver failed, and everything is done again.
            answer(&mut infos, "gpu", &claims[0], "gpu-0");
            let devices = &infos.by_key[&key("a")].drivers["gpu"].devices;
            let shares = devices.iter().filter(|device| device.share_id.is_some()).count();
            let expected = match version {
                Version::V1_34 => (2, 0),
                Version::V1_35 | Version::V1_36 => (2, 2),
                Version::V1_37 => (1, 1),
            };
            assert_eq!((devices.len(), shares), expected, "{version:?}");

            // A pod that names the claim and never got it.
            let (keys, _) = infos.clone().release("stranger", &[key("a")]);
            assert_eq!(keys.is_empty(), version == Version::V1_37, "{version:?}");

            infos.release("user", &[key("a")]);
            assert_eq!(infos.reserve("late", &claims).is_err(), version == Version::V1_37, "{version:?}");
        }
    }

    #[test]
    fn an_older_claim_of_the_same_name_must_go_first() {
        let mut infos = empty(Version::V1_37);
        infos.reserve("pod-1", &[claim("a", &["gpu"])]).unwrap();
        let newer = [claim("b", &["gpu"]), Allocated { uid: "newer".to_owned(), ..claim("a", &["gpu"]) }];
        let problem = infos.reserve("pod-2", &newer).unwrap_err();
        assert!(matches!(problem, Problem::OldClaim { claim, old } if claim == "a" && old == "uid-of-a"));
        assert_eq!(infos.by_key.len(), 1, "all or none");
    }

    #[test]
    fn pods_that_are_gone_leave_claims_behind() {
        let mut infos = empty(Version::V1_37);
        infos.reserve("gone", &[claim("a", &["gpu"]), claim("b", &["gpu"])]).unwrap();
        infos.reserve("there", &[claim("b", &["gpu"])]).unwrap();
        let active = BTreeSet::from(["there".to_owned()]);
        assert_eq!(infos.left_behind(&active), [("gone".to_owned(), vec![key("a"), key("b")])].into());
    }
}
