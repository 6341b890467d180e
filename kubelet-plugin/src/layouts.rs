//! What the devices of the node are offered as, as the NodeLayout of the node says: it is read, carried out by each driver for
//! its own devices, and answered for all of them.

mod carrying_out;
mod desired;
mod events;
mod files;
mod layouter;
mod status;

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::future::BoxFuture;
use kube::Client;
use tessera_vocabulary::DriverName;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use desired::Seen;
pub(crate) use files::{has_layouts, load, peek, write};
pub(crate) use layouter::{Layouter, Parts};
use status::Report;

/// What the drivers of the node share.
#[derive(Clone, Debug)]
pub(crate) struct NodeLayouts {
    /// Whether policies are followed at all; else what was made for them is withdrawn.
    followed: bool,
    seen: watch::Receiver<Seen>,
    reports: watch::Sender<BTreeMap<DriverName, Report>>,
}

/// The layouts of a node, and what has to go on for them, each until stopped. `drivers` are served from the start: before
/// all of them have said how their devices are, nothing is told.
pub(crate) fn of_node(
    client: &Client,
    node: &str,
    followed: bool,
    drivers: Vec<DriverName>,
    stop: &CancellationToken,
) -> (NodeLayouts, Vec<BoxFuture<'static, ()>>) {
    let (told, seen) = watch::channel(Seen::default());
    let reports = watch::Sender::new(BTreeMap::new());
    let layouts = NodeLayouts { followed, seen: seen.clone(), reports: reports.clone() };
    if !followed {
        told.send_modify(|seen| seen.is_answered = true);
        // Nobody tells anything else.
        drop(told);
        return (layouts, Vec::new());
    }
    let watching = desired::watch(client.clone(), node.to_owned(), told, stop.clone());
    let writer = status::Writer::new(client, node.to_owned(), drivers);
    let writing = writer.run(seen, reports.subscribe(), stop.clone());
    (layouts, vec![watching.boxed(), writing.boxed()])
}
