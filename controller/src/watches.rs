//! What the API server tells of policies, NodeLayouts and nodes, and of slices where domains are offered.

use futures::stream::{BoxStream, SelectAll};
use futures::{FutureExt, StreamExt};
use kube::api::ListParams;
use kube::core::error_boundary::InvalidObject;
use kube::core::{DeserializeGuard, Resource};
use kube::runtime::watcher::{self, Config, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client, ResourceExt};
use tessera_policy::{NodeLayout, PartitionPolicy};
use tessera_rollout::{Cluster, NodeName, PolicyName, Revision};
use tessera_vocabulary::DriverName;
use tracing::warn;

use crate::client::call;
use crate::known_nodes::KnownNodes;
use crate::list::List;
use crate::metrics::Metrics;
use crate::slice_watches::{self, SliceWatches};
use crate::watched_node::WatchedNode;

/// A watch whose connection died silently is noticed after this many seconds.
const WATCH_TIMEOUT: u32 = 60;

/// Nodes are long, and a page of them is read as a whole.
const NODES_PER_PAGE: u32 = 100;

/// Something that was heard.
enum Heard {
    Policy(Event<Guarded<PartitionPolicy>>),
    Node(Event<WatchedNode>),
    /// With how far the server had come before a list was begun.
    Layout(Event<Guarded<NodeLayout>>, Option<Revision>),
    Slice(slice_watches::Heard),
}

/// One object that cannot be read must not keep all others from being heard of.
type Guarded<K> = DeserializeGuard<K>;

/// All watches as one.
pub(crate) struct Watches {
    stream: SelectAll<BoxStream<'static, Result<Heard, watcher::Error>>>,
    known_nodes: KnownNodes,
    metrics: Metrics,
    policies: List<PolicyName>,
    nodes: List<NodeName>,
    layouts: List<NodeName>,
    slices: SliceWatches,
    /// How far the server had come before they were listed.
    layouts_until: Revision,
}

impl Watches {
    /// The slices of these drivers, besides.
    pub(crate) fn new(client: &Client, drivers: Vec<DriverName>, known_nodes: KnownNodes, metrics: Metrics) -> Self {
        let config = || Config::default().timeout(WATCH_TIMEOUT);
        let policies = watch(Api::<Guarded<PartitionPolicy>>::all(client.clone()), config());
        let nodes = watch(Api::<WatchedNode>::all(client.clone()), config().page_size(NODES_PER_PAGE));
        let all_layouts = Api::<NodeLayout>::all(client.clone());
        let layouts = watch(Api::<Guarded<NodeLayout>>::all(client.clone()), config());
        let slices = SliceWatches::new(drivers);
        let of_slices = slices.streams(client, WATCH_TIMEOUT).into_iter();
        let of_slices = of_slices.map(|stream| stream.map(|heard| heard.map(Heard::Slice)).boxed());
        let stream = [
            policies.default_backoff().map(|heard| heard.map(Heard::Policy)).boxed(),
            nodes.default_backoff().map(|heard| heard.map(Heard::Node)).boxed(),
            layouts.default_backoff().then(move |heard| with_version(all_layouts.clone(), heard)).boxed(),
        ];
        let (policies, nodes, layouts) = (List::default(), List::default(), List::default());
        let (stream, layouts_until) = (stream.into_iter().chain(of_slices).collect(), Revision::default());
        Self { stream, known_nodes, metrics, policies, nodes, layouts, layouts_until, slices }
    }

    /// Whether all were listed once.
    pub(crate) fn are_complete(&self) -> bool {
        self.policies.is_complete()
            && self.nodes.is_complete()
            && self.layouts.is_complete()
            && self.slices.are_complete()
    }

    /// Waits for news, and takes all that there are. The error is that there will be no more.
    pub(crate) async fn hear(&mut self, cluster: &mut Cluster) -> anyhow::Result<()> {
        let mut next = self.stream.next().await;
        loop {
            match next {
                None => anyhow::bail!("the watches ended"),
                Some(Ok(heard)) => self.take(heard, cluster),
                Some(Err(error)) => warn!(%error, "a watch broke; it is made anew"),
            }
            match self.stream.next().now_or_never() {
                None => return Ok(()),
                Some(more) => next = more,
            }
        }
    }

    fn take(&mut self, heard: Heard, cluster: &mut Cluster) {
        match heard {
            Heard::Policy(event) => self.policy(event, cluster),
            Heard::Node(event) => self.node(event, cluster),
            Heard::Layout(event, until) => {
                self.layouts_until = until.unwrap_or(self.layouts_until);
                self.layout(event, cluster);
            }
            Heard::Slice(heard) => self.slices.take(heard, cluster),
        }
    }

    fn policy(&mut self, event: Event<Guarded<PartitionPolicy>>, cluster: &mut Cluster) {
        match event {
            Event::Init => self.policies.begin(),
            Event::InitApply(policy) => {
                self.policies.receive(policy.name_any().as_str().into());
                self.policy_is(policy, cluster);
            }
            Event::InitDone => cluster.policies_are(&self.policies.end()),
            Event::Apply(policy) => self.policy_is(policy, cluster),
            Event::Delete(policy) => {
                self.metrics.policy_gone(&policy.name_any());
                cluster.policy_gone(policy.meta());
            }
        }
    }

    fn policy_is(&self, policy: Guarded<PartitionPolicy>, cluster: &mut Cluster) {
        match policy.0 {
            Ok(policy) => {
                let nodes = policy.status.as_ref().map(|status| status.nodes);
                self.metrics.policy(&policy.name_any(), nodes.unwrap_or_default());
                cluster.policy(policy);
            }
            Err(invalid) => {
                warn!(policy = invalid.metadata.name, error = invalid.error, "a policy cannot be read");
                cluster.policy_unreadable(invalid.metadata, &invalid.error);
            }
        }
    }

    fn node(&mut self, event: Event<WatchedNode>, cluster: &mut Cluster) {
        match event {
            Event::Init => self.nodes.begin(),
            Event::InitApply(node) => {
                self.nodes.receive(node.name_any().as_str().into());
                self.node_is(node, cluster);
            }
            Event::InitDone => {
                let names = self.nodes.end();
                cluster.nodes_are(&names);
                self.known_nodes.get().get_or_insert_default().retain(|name, _| names.contains(name));
            }
            Event::Apply(node) => self.node_is(node, cluster),
            Event::Delete(node) => {
                let name = NodeName::from(node.name_any().as_str());
                cluster.node_gone(&name);
                self.known_nodes.get().as_mut().and_then(|known| known.remove(&name));
            }
        }
    }

    fn node_is(&self, node: WatchedNode, cluster: &mut Cluster) {
        let name = NodeName::from(node.name_any().as_str());
        let not_ready_since = node.not_ready_since();
        let uid = node.metadata.uid.unwrap_or_default();
        // Before the first list is complete nobody may conclude anything from a node's absence.
        if let Some(known) = self.known_nodes.get().as_mut() {
            known.insert(name.clone(), uid.clone());
        }
        cluster.node(name.clone(), uid, node.metadata.labels.unwrap_or_default());
        cluster.node_readiness(&name, not_ready_since);
    }

    fn layout(&mut self, event: Event<Guarded<NodeLayout>>, cluster: &mut Cluster) {
        let read = |layout: Guarded<NodeLayout>| {
            let unread = |invalid: &InvalidObject| {
                warn!(node = invalid.metadata.name, error = invalid.error, "a NodeLayout cannot be read");
            };
            layout.0.inspect_err(unread).ok()
        };
        match event {
            Event::Init => self.layouts.begin(),
            Event::InitApply(layout) => {
                self.layouts.receive(layout.name_any().as_str().into());
                read(layout).into_iter().for_each(|layout| cluster.layout(layout));
            }
            Event::InitDone => {
                cluster.layouts_seen_until(self.layouts_until);
                cluster.layouts_are(&self.layouts.end());
            }
            Event::Apply(layout) => read(layout).into_iter().for_each(|layout| cluster.layout(layout)),
            Event::Delete(layout) => cluster.layout_gone(layout.meta()),
        }
    }
}

/// The version of a list is not told with it, so one is asked for before: the watcher asks for its list when it is asked for
/// what comes after the event that begins one.
async fn with_version(
    layouts: Api<NodeLayout>,
    heard: Result<Event<Guarded<NodeLayout>>, watcher::Error>,
) -> Result<Heard, watcher::Error> {
    let begins = matches!(heard, Ok(Event::Init));
    let until = if begins { call(layouts.list_metadata(&ListParams::default().limit(1))).await.ok() } else { None };
    let until = until.map(|list| Revision::read(list.metadata.resource_version.as_deref()));
    heard.map(|event| Heard::Layout(event, until))
}
