//! One driver being served: everything of it wired together, started in order, stopped in order.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::FutureExt;
use futures::future::BoxFuture;
use tessera_core::Identity;
use tessera_kubelet_api::{
    dra_v1::dra_plugin_server::DraPluginServer as DraV1, dra_v1beta1::dra_plugin_server::DraPluginServer as DraV1Beta1,
    health_v1::dra_resource_health_server::DraResourceHealthServer as HealthV1,
    health_v1alpha1::dra_resource_health_server::DraResourceHealthServer as HealthV1Alpha1,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tracing::{info, warn};

use crate::backends::{Row, Ways};
use crate::claims::{Claims, Parts};
use crate::device_plugin::{self, Desk};
use crate::disk::Disk;
use crate::dra::Dra;
use crate::features::{self, Labeller};
use crate::hardware::{self, Hardware, Looks, Observed};
use crate::health::Health;
use crate::labels;
use crate::layouts::{self, Layouter};
use crate::ledger::SharedLedger;
use crate::node::Node;
use crate::notices::Notices;
use crate::publisher::Publisher;
use crate::readiness::{Serving, Stage};
use crate::reconciler::Reconciler;
use crate::registration::{Plugin, register};
use crate::sockets::Socket;
use crate::store::Store;
use crate::works::Works;

/// A prepare that comes right at the start should find the hardware looked at; a driver that hangs holds up no more.
const FIRST_LOOK: Duration = Duration::from_secs(5);
/// Calls that are under way when the agent is told to stop are given this long.
pub(crate) const LAST_CALLS: Duration = Duration::from_secs(10);

/// By which the kubelet reaches the driver.
pub(crate) struct Sockets {
    /// Where it calls.
    pub(crate) dra: Socket,
    /// Where it is told of that.
    pub(crate) registration: PathBuf,
}

/// Serves a driver until stopped.
///
/// # Errors
/// What keeps it from being served, and a part of it that fails: nothing of it is left running then.
pub(crate) async fn serve(
    row: &Row,
    mut sockets: Sockets,
    node: &Node,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let (hardware, options) = (&node.hardware, &node.options);
    let driver = row.name(hardware);
    let identity = Identity::new(driver.clone(), node.name.clone(), node.boot_id.clone())
        .with_context(|| format!("driver name {driver}"))?;
    let metrics = node.metrics.driver(&driver);
    let notices = Notices::new(driver.clone(), metrics.clone(), node.events.clone());
    let store = Store::open(options.state_dir.join(driver.as_str())).context("--state-dir")?;
    let ledger = SharedLedger::open(store, identity.boot_id.clone(), metrics.clone(), notices.clone());
    let ledger = Arc::new(ledger.context("--state-dir")?);

    let labels_known = row.reads_labels && labels::first(&node.client, &node.name, &node.labels).await;
    let Ways { backend, workbench } = row.open(hardware, &node.labels);
    let held = Arc::clone(&ledger);
    let in_use = move || held.accelerators_in_use();
    let seen = Hardware::new(driver.clone());
    ledger.tell(seen.clone());
    let looks = Looks { backend, interval: options.rescan, offering: hardware.offering(), metrics: metrics.clone() };
    let watching = hardware::watch(&seen, looks, in_use).context("no thread for the hardware")?;
    let observed = seen.observed();

    let (labels_told, told) = watch::channel(None);
    let mut configuration = device_plugin::Configuration::new(row, options, told, metrics.clone(), notices.clone());
    configuration.begin();
    let configured = configuration.configured();
    // Where nobody follows policies and nothing was ever made for any, devices are offered as the agent was told.
    let state_dir = options.state_dir.join(driver.as_str());
    let lays_out = options.node_layouts || layouts::has_layouts(&state_dir);
    let (layouts_told, layouts_known) = watch::channel(!lays_out);
    let specs = || cdi::Directory::open(&options.cdi_dir).context("--cdi-dir");
    // Also where nothing is offered by count: pods may have what was, and keep it.
    let desk = Desk::new(device_plugin::Parts {
        driver: driver.clone(),
        family: row.resources,
        apis: options.apis(),
        config: configured.clone(),
        host: hardware.host(),
        observed: observed.clone(),
        ledger: Arc::clone(&ledger),
        specs: specs()?,
        layouts_known: layouts_known.clone(),
    });
    let desk = Arc::new(desk.with_context(|| format!("driver name {driver}"))?);

    let works = Arc::new(Works::new(workbench, seen.clone()));
    let claims = Claims::take_over(Parts {
        identity: identity.clone(),
        host: hardware.host(),
        client: node.client.clone(),
        observed: observed.clone(),
        works: Arc::clone(&works),
        disk: Disk { ledger: Arc::clone(&ledger), specs: specs()? },
        loans_known: desk.loans_known(),
        metrics: metrics.clone(),
        notices: notices.clone(),
    })?;

    let stop = stop.child_token();
    let mut tasks = JoinSet::new();
    let (registered, is_registered) = watch::channel(false);
    let (published, is_published) = watch::channel(false);
    let (layouts_published, published_layouts) = watch::channel(None);
    let mut work = |part: BoxFuture<'static, ()>| {
        tasks.spawn(async move {
            part.await;
            Ok(())
        });
    };
    let publisher = Publisher {
        driver: driver.clone(),
        node: node.name.clone(),
        client: node.client.clone(),
        observed: observed.clone(),
        precedence: ledger.precedence(),
        apis: options.apis(),
        layouts_known,
        layouts: layouts_published,
        ledger: Arc::clone(&ledger),
        metrics: metrics.clone(),
        notices: notices.clone(),
    };
    work(publisher.run(published, stop.clone()).boxed());
    if lays_out {
        let layouter = Layouter::new(layouts::Parts {
            driver: driver.clone(),
            boot_id: node.boot_id.clone(),
            state_dir,
            layouts: node.layouts.clone(),
            ledger: Arc::clone(&ledger),
            hardware: seen,
            works,
            loans_known: desk.loans_known(),
            published: published_layouts,
            known: layouts_told,
            grace: options.layout_grace,
            precedence: ledger.precedence(),
            metrics: metrics.clone(),
            notices: notices.clone(),
        });
        work(layouter.run(stop.clone()).boxed());
    }
    if configuration.is_by_label() {
        work(labels::watch(node.client.clone(), node.name.clone(), labels_told, stop.clone()).boxed());
    }
    work(configuration.follow(options.rescan, stop.clone()).boxed());
    if row.reads_labels {
        let (client, node, labels) = (node.client.clone(), node.name.clone(), node.labels.clone());
        work(labels::follow(client, node, labels, labels_known, stop.clone()).boxed());
    }
    if let Some(labeller) = Labeller::new(row, node, || notices.clone()) {
        let sources = features::Sources { observed: observed.clone(), ledger, config: configured };
        work(labeller.follow(sources, stop.clone()).boxed());
    }
    work(watching.watch_over(node.uevents.clone(), metrics, notices.clone(), stop.clone()).boxed());
    node.readiness.set(&driver, Stage::Serving(Serving { registered: is_registered, published: is_published }));

    first_look(observed.clone(), &stop).await;
    let instance = options.instance.as_deref();
    device_plugin::work(&desk, &options.kubelet_dir, instance, &stop).into_iter().for_each(&mut work);

    // The DRA socket is served before the kubelet hears of it: it connects as soon as it does.
    let plugin =
        Plugin { driver: driver.to_string(), endpoint: sockets.dra.path().to_owned(), socket: sockets.registration };
    let claims = Arc::new(claims);
    let reconciler = Reconciler {
        identity: identity.clone(),
        claims: Arc::clone(&claims),
        client: node.client.clone(),
        rounds: node.rounds.clone(),
        notices,
    };
    work(reconciler.run(stop.clone()).boxed());
    let dra = Dra::new(claims);
    let health = Health::new(identity, observed, stop.clone());
    let serving = Server::builder()
        .add_service(DraV1::new(dra.clone()))
        .add_service(DraV1Beta1::new(dra))
        .add_service(HealthV1::new(health.clone()))
        .add_service(HealthV1Alpha1::new(health))
        .serve_with_incoming_shutdown(sockets.dra.connections(), stop.clone().cancelled_owned());
    tasks.spawn(async move {
        // Lives as long as it is served.
        let _socket = sockets.dra;
        serving.await.context("DRA server")
    });
    let registering = register(plugin, registered, stop.clone());
    tasks.spawn(async move { registering.await.context("registration") });
    info!(%driver, node = node.name, "serving");

    let ended = tokio::select! {
        () = stop.cancelled() => None,
        ended = tasks.join_next() => ended,
    };
    // A part that fails at the end does so because of it.
    let ended = ended.filter(|_| !stop.is_cancelled());
    stop.cancel();
    // The registration goes at once, calls that are under way are finished.
    let rest = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_CALLS, rest).await.is_err() {
        warn!(%driver, "calls of the kubelet were still under way; it will repeat them");
    }
    match ended {
        None => Ok(()),
        Some(Ok(Ok(()))) => bail!("a part of the driver ended by itself"),
        Some(Ok(Err(error))) => Err(error),
        Some(Err(panic)) => Err(panic).context("a part of the driver failed"),
    }
}

/// Waits until the hardware has been looked at, whatever came of it.
async fn first_look(mut observed: Observed, stop: &CancellationToken) {
    let looked = tokio::time::timeout(FIRST_LOOK, observed.wait_for(Option::is_some));
    if let Some(Err(_)) = stop.run_until_cancelled(looked).await {
        warn!("the first look at the hardware takes long; serving without it");
    }
}
