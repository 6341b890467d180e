//! ResourceSlices whose Node is gone. Kubernetes' garbage collector removes them where it runs and knows their owner; where it
//! did not, the scheduler goes on to see devices that nobody has.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::resource::v1::ResourceSlice;
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};
use tessera_rollout::NodeName;
use tessera_vocabulary::DriverName;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use crate::client::{CallError, call, only};
use crate::known_nodes::KnownNodes;
use crate::metrics::Metrics;

/// So long a node must have been gone.
const GRACE: Duration = Duration::from_secs(60);
const PAGE: u32 = 500;

/// What looks for them.
pub(crate) struct Leftovers {
    slices: Api<ResourceSlice>,
    nodes: Api<Node>,
    drivers: Vec<DriverName>,
    known_nodes: KnownNodes,
    metrics: Metrics,
    /// By UID, when they were found first.
    found: BTreeMap<String, Instant>,
}

impl Leftovers {
    pub(crate) fn new(client: &Client, drivers: Vec<DriverName>, known_nodes: KnownNodes, metrics: Metrics) -> Self {
        let (slices, nodes) = (Api::all(client.clone()), Api::all(client.clone()));
        Self { slices, nodes, drivers, known_nodes, metrics, found: BTreeMap::new() }
    }

    /// Looks again and again, until it is dropped.
    pub(crate) async fn clear(mut self, every: Duration) {
        loop {
            sleep(every).await;
            if let Err(error) = self.look().await {
                warn!(%error, "cannot look for slices of nodes that are gone");
            }
        }
    }

    async fn look(&mut self) -> Result<(), CallError> {
        let mut left = Vec::new();
        for driver in &self.drivers {
            let mut page = ListParams::default().fields(&format!("spec.driver={driver}")).limit(PAGE);
            loop {
                let list = call(self.slices.list_metadata(&page)).await?;
                let token = list.metadata.continue_.clone();
                left.extend(list.items.into_iter().filter(|slice| self.is_left(slice)));
                match token.filter(|token| !token.is_empty()) {
                    Some(token) => page = page.continue_token(&token),
                    None => break,
                }
            }
        }
        let now = Instant::now();
        for slice in self.long_gone(&left, now) {
            self.remove(slice).await?;
        }
        Ok(())
    }

    /// By what the watch over nodes tells, which may be late: it is asked again before anything is removed.
    fn is_left(&self, slice: &PartialObjectMeta<ResourceSlice>) -> bool {
        let nodes = self.known_nodes.get();
        let known = |name: &str| nodes.as_ref().map(|nodes| nodes.get(&NodeName::from(name)).cloned());
        owner(slice).is_some_and(|(name, uid)| known(name).is_some_and(|there| there.as_deref() != Some(uid)))
    }

    /// Of those that are left, which were found a while ago already.
    fn long_gone<'a>(
        &mut self,
        left: &'a [PartialObjectMeta<ResourceSlice>],
        now: Instant,
    ) -> Vec<&'a PartialObjectMeta<ResourceSlice>> {
        let uids: Vec<_> = left.iter().filter_map(ResourceExt::uid).collect();
        self.found.retain(|uid, _| uids.contains(uid));
        let is_old = |slice: &&PartialObjectMeta<ResourceSlice>| {
            let Some(uid) = slice.uid() else { return false };
            now.duration_since(*self.found.entry(uid).or_insert(now)) >= GRACE
        };
        left.iter().filter(is_old).collect()
    }

    async fn remove(&self, slice: &PartialObjectMeta<ResourceSlice>) -> Result<(), CallError> {
        let Some((node, uid)) = owner(slice) else { return Ok(()) };
        if call(self.nodes.get_metadata_opt(node))
            .await?
            .is_some_and(|there| there.metadata.uid.as_deref() == Some(uid))
        {
            return Ok(());
        }
        let params = only(slice.uid(), slice.resource_version());
        let name = slice.name_any();
        match call(self.slices.delete(&name, &params)).await {
            Ok(_) => {
                info!(slice = name, node, "removed a slice of a node that is gone");
                self.metrics.leftover_removed();
                Ok(())
            }
            Err(error) if error.is_outdated() => {
                debug!(slice = name, %error, "somebody else takes care of it");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// Name and UID of the Node that a slice belongs to.
pub(crate) fn owner(slice: &PartialObjectMeta<ResourceSlice>) -> Option<(&str, &str)> {
    let owners = slice.metadata.owner_references.iter().flatten();
    owners.filter(|owner| owner.kind == "Node").map(|owner| (owner.name.as_str(), owner.uid.as_str())).next()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
    use kube::core::TypeMeta;

    use super::*;

    fn slice(node: &str, uid: &str) -> PartialObjectMeta<ResourceSlice> {
        let owner = OwnerReference {
            kind: "Node".to_owned(),
            name: node.to_owned(),
            uid: uid.to_owned(),
            ..OwnerReference::default()
        };
        PartialObjectMeta {
            types: Some(TypeMeta::default()),
            metadata: ObjectMeta {
                name: Some(format!("{node}-000")),
                uid: Some(format!("slice-of-{uid}")),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            },
            _phantom: std::marker::PhantomData,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_for_a_minute_is_removed_and_nothing_before_nodes_are_known() {
        let service = tower::service_fn(|_: axum::http::Request<kube::client::Body>| async {
            Err::<axum::http::Response<kube::client::Body>, _>(std::io::Error::other("nobody asks"))
        });
        let known_nodes = KnownNodes::default();
        let client = Client::new(service, "default");
        let mut leftovers = Leftovers::new(&client, Vec::new(), known_nodes.clone(), Metrics::new(None));
        assert!(!leftovers.is_left(&slice("gone", "1")));
        known_nodes.get().get_or_insert_default().insert("there".into(), "1".to_owned());
        for (node, uid, left) in [("there", "1", false), ("there", "0", true), ("gone", "1", true)] {
            assert_eq!(leftovers.is_left(&slice(node, uid)), left, "{node} {uid}");
        }
        let left = [slice("gone", "1")];
        assert!(leftovers.long_gone(&left, Instant::now()).is_empty());
        tokio::time::advance(GRACE / 2).await;
        assert!(leftovers.long_gone(&[], Instant::now()).is_empty(), "it came back");
        assert!(leftovers.long_gone(&left, Instant::now()).is_empty());
        tokio::time::advance(GRACE).await;
        assert_eq!(leftovers.long_gone(&left, Instant::now()).len(), 1);
    }
}
