//! What the API server tells of ResourceSlices of Tessera's drivers: on which nodes an agent publishes, and what is stored of
//! fabric domains.

use std::collections::BTreeMap;

use futures::StreamExt;
use futures::stream::BoxStream;
use k8s_openapi::api::resource::v1::ResourceSlice;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Config, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, ResourceExt};
use tessera_rollout::{Cluster, NodeName};
use tessera_vocabulary::DriverName;

use crate::leftovers::owner;
use crate::list::List;

/// Something that was heard of one driver's slices, by the driver's place among all.
pub(crate) enum Heard {
    /// Of any slice. Who owns it stands in its metadata, and no more of it is asked for.
    Owned(usize, Event<PartialObjectMeta<ResourceSlice>>),
    /// Of one without a node. There are few of them, and what they say is compared with what they should.
    OfDomain(usize, Event<ResourceSlice>),
}

/// What was heard so far.
pub(crate) struct SliceWatches {
    drivers: Vec<Driver>,
    /// How many slices each node has, of all drivers.
    slices: BTreeMap<NodeName, usize>,
}

struct Driver {
    name: DriverName,
    /// The node of each slice that has one.
    owners: BTreeMap<String, NodeName>,
    /// Of a list that is being received.
    owned: List<String>,
    of_domains: List<String>,
}

impl SliceWatches {
    pub(crate) fn new(drivers: Vec<DriverName>) -> Self {
        let driver =
            |name| Driver { name, owners: BTreeMap::new(), owned: List::default(), of_domains: List::default() };
        Self { drivers: drivers.into_iter().map(driver).collect(), slices: BTreeMap::new() }
    }

    /// The watches themselves.
    pub(crate) fn streams(
        &self,
        client: &Client,
        timeout: u32,
    ) -> Vec<BoxStream<'static, Result<Heard, watcher::Error>>> {
        let of = |(index, driver): (usize, &Driver)| {
            let config = |fields: &str| Config::default().fields(fields).timeout(timeout);
            let own = format!("spec.driver={}", driver.name);
            let all = watch(Api::<PartialObjectMeta<ResourceSlice>>::all(client.clone()), config(&own));
            let of_domains = watch(Api::<ResourceSlice>::all(client.clone()), config(&format!("{own},spec.nodeName=")));
            [
                all.default_backoff().map(move |heard| heard.map(|event| Heard::Owned(index, event))).boxed(),
                of_domains.default_backoff().map(move |heard| heard.map(|event| Heard::OfDomain(index, event))).boxed(),
            ]
        };
        self.drivers.iter().enumerate().flat_map(of).collect()
    }

    /// Whether all were listed once.
    pub(crate) fn are_complete(&self) -> bool {
        self.drivers.iter().all(|driver| driver.owned.is_complete() && driver.of_domains.is_complete())
    }

    pub(crate) fn take(&mut self, heard: Heard, cluster: &mut Cluster) {
        match heard {
            Heard::Owned(driver, event) => self.owned(driver, event, cluster),
            Heard::OfDomain(driver, event) => self.of_domain(driver, event, cluster),
        }
    }

    fn owned(&mut self, driver: usize, event: Event<PartialObjectMeta<ResourceSlice>>, cluster: &mut Cluster) {
        let Some(list) = self.drivers.get_mut(driver).map(|driver| &mut driver.owned) else { return };
        match event {
            Event::Init => list.begin(),
            Event::InitApply(slice) => {
                list.receive(slice.name_any());
                self.belongs(driver, &slice, cluster);
            }
            Event::InitDone => {
                let there = list.end();
                let known = &self.drivers[driver].owners;
                let gone: Vec<_> = known.keys().filter(|name| !there.contains(*name)).cloned().collect();
                gone.iter().for_each(|name| self.gone(driver, name, cluster));
            }
            Event::Apply(slice) => self.belongs(driver, &slice, cluster),
            Event::Delete(slice) => self.gone(driver, &slice.name_any(), cluster),
        }
    }

    fn belongs(&mut self, driver: usize, slice: &PartialObjectMeta<ResourceSlice>, cluster: &mut Cluster) {
        let name = slice.name_any();
        let node = owner(slice).map(|(node, _)| NodeName::from(node));
        if self.drivers[driver].owners.get(&name) == node.as_ref() {
            return;
        }
        self.gone(driver, &name, cluster);
        if let Some(node) = node {
            *self.slices.entry(node.clone()).or_default() += 1;
            cluster.agent_is_here(&node);
            self.drivers[driver].owners.insert(name, node);
        }
    }

    fn gone(&mut self, driver: usize, slice: &str, cluster: &mut Cluster) {
        let Some(node) = self.drivers[driver].owners.remove(slice) else { return };
        let Some(slices) = self.slices.get_mut(&node) else { return };
        *slices -= 1;
        if *slices == 0 {
            self.slices.remove(&node);
            cluster.agent_is_away(&node);
        }
    }

    fn of_domain(&mut self, driver: usize, event: Event<ResourceSlice>, cluster: &mut Cluster) {
        let Some(Driver { name, of_domains: list, .. }) = self.drivers.get_mut(driver) else { return };
        match event {
            Event::Init => list.begin(),
            Event::InitApply(slice) => {
                list.receive(slice.name_any());
                cluster.domain_slice(slice);
            }
            Event::InitDone => cluster.domain_slices_are(name, &list.end()),
            Event::Apply(slice) => cluster.domain_slice(slice),
            Event::Delete(slice) => cluster.domain_slice_gone(&slice.metadata),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

    use super::*;

    fn slice(name: &str, node: &str) -> PartialObjectMeta<ResourceSlice> {
        let owner = OwnerReference { kind: "Node".to_owned(), name: node.to_owned(), ..OwnerReference::default() };
        PartialObjectMeta {
            types: None,
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                owner_references: (!node.is_empty()).then(|| vec![owner]),
                ..ObjectMeta::default()
            },
            _phantom: std::marker::PhantomData,
        }
    }

    #[test]
    fn an_agent_is_where_any_driver_has_a_slice() {
        let drivers = vec![DriverName::nvidia_gpu(), DriverName::google_tpu()];
        let (mut watches, mut cluster) = (SliceWatches::new(drivers), Cluster::default());
        let mut hear = |watches: &mut SliceWatches, driver, event| {
            watches.take(Heard::Owned(driver, event), &mut cluster);
            watches.slices.keys().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        for (driver, event, expected) in [
            (0, Event::Init, ""),
            (0, Event::InitApply(slice("a-0", "a")), "a"),
            (0, Event::InitApply(slice("a-1", "a")), "a"),
            (0, Event::InitApply(slice("domain", "")), "a"),
            (0, Event::InitDone, "a"),
            (1, Event::Apply(slice("a-t", "a")), "a"),
            (1, Event::Apply(slice("b-t", "b")), "a b"),
            (0, Event::Delete(slice("a-0", "a")), "a b"),
            (0, Event::Init, "a b"),
            (0, Event::InitDone, "a b"),
            (1, Event::Delete(slice("a-t", "a")), "b"),
            (1, Event::Apply(slice("b-t", "c")), "c"),
        ] {
            assert_eq!(hear(&mut watches, driver, event), expected);
        }
        assert!(!watches.are_complete());
        for driver in 0..2 {
            watches.take(Heard::Owned(driver, Event::InitDone), &mut cluster);
            watches.take(Heard::OfDomain(driver, Event::InitDone), &mut cluster);
        }
        assert!(watches.are_complete());
    }
}
