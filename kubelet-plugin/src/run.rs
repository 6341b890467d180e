//! `tessera-agent run`: everything wired together, started in order, stopped in order.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use futures::FutureExt;
use futures::future::BoxFuture;
use tessera_core::Identity;
use tessera_driver::nvidia::{Nvidia, NvidiaWorkbench, Session};
use tessera_kubelet_api::{
    dra_v1::dra_plugin_server::DraPluginServer as DraV1, dra_v1beta1::dra_plugin_server::DraPluginServer as DraV1Beta1,
    health_v1::dra_resource_health_server::DraResourceHealthServer as HealthV1,
    health_v1alpha1::dra_resource_health_server::DraResourceHealthServer as HealthV1Alpha1,
};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::claims::{Claims, Parts};
use crate::cli::{HardwareOptions, Http, LogFormat, RunOptions};
use crate::directories::Directories;
use crate::disk::Disk;
use crate::dra::Dra;
use crate::hardware::{Hardware, Observed};
use crate::health::Health;
use crate::http::{self, Readiness};
use crate::ledger::SharedLedger;
use crate::metrics::Metrics;
use crate::notices::Notices;
use crate::pod_resources::PodResources;
use crate::publisher::Publisher;
use crate::reconciler::Reconciler;
use crate::registration::{Plugin, register};
use crate::sockets::Socket;
use crate::store::{Store, boot_id};
use crate::works::Works;
use crate::{api, events, hardware};

/// A prepare that comes right at the start should find the hardware looked at; a driver that hangs holds up no more.
const FIRST_LOOK: Duration = Duration::from_secs(5);
/// Calls that are under way when the agent is told to stop are given this long.
const LAST_CALLS: Duration = Duration::from_secs(10);

/// Serves the kubelet of this node until told to stop.
///
/// # Errors
/// What keeps the agent from starting, and a server that fails while it runs: better to be started again than to go on
/// without it.
pub fn run(hardware: &HardwareOptions, options: &RunOptions) -> anyhow::Result<()> {
    log(options)?;
    // Before any client is made: the one TLS provider.
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow!("a TLS provider is installed already"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        // Work on an accelerator may take a thread for half a minute.
        .max_blocking_threads(64)
        .enable_all()
        .build()
        .context("no async runtime")?;
    let result = runtime.block_on(serve(hardware, options));
    // A look at the hardware that hangs must not keep the agent from ending.
    runtime.shutdown_background();
    result
}

fn log(options: &RunOptions) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&options.log).with_context(|| {
        format!("--log {:?}: must be a level or a filter such as info,tessera_agent=debug", options.log)
    })?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match options.log_format {
        LogFormat::Text => subscriber.with_ansi(false).init(),
        LogFormat::Json => subscriber.json().init(),
    }
    Ok(())
}

async fn serve(hardware: &HardwareOptions, options: &RunOptions) -> anyhow::Result<()> {
    let driver = hardware.nvidia_driver_name.clone();
    let node = hardware.node_name.clone().context("--node-name (or NODE_NAME) must name this node's Node object")?;
    let directories = Directories::check(&options.kubelet_dir, driver.as_str())?;
    // First of all: a kubelet that knows an earlier agent's socket waits for an answer as soon as it can connect, while
    // a refused connection costs a pod more than a minute.
    let mut socket = Socket::bind(directories.dra_socket(options.instance.as_deref()))?;
    let identity = Identity::new(driver.clone(), node.clone(), boot_id()?).context("--nvidia-driver-name")?;
    let metrics = Metrics::new(driver.as_str());
    let (notices, events) = Notices::new(metrics.clone());
    let client = api::client(options.kubeconfig.as_deref()).await?;
    let store = Store::open(options.state_dir.join(driver.as_str())).context("--state-dir")?;
    let ledger = SharedLedger::open(store, identity.boot_id.clone(), metrics.clone(), notices.clone());
    let ledger = Arc::new(ledger.context("--state-dir")?);

    let session = Session::new(hardware.nvidia_driver_root());
    let backend = Nvidia::new(hardware.root(), session.clone());
    let held = Arc::clone(&ledger);
    let in_use = move || held.accelerators_in_use();
    let seen = Hardware::new();
    ledger.tell(seen.clone());
    let watching = hardware::watch(&seen, backend, options.rescan, hardware.offering(), in_use, metrics.clone())
        .context("no thread for the hardware")?;
    let observed = seen.observed();

    let claims = Claims::take_over(Parts {
        identity: identity.clone(),
        host: hardware.host(),
        client: client.clone(),
        observed: observed.clone(),
        works: Works::new(Arc::new(NvidiaWorkbench::new(hardware.root(), session)), seen),
        disk: Disk { ledger: Arc::clone(&ledger), specs: cdi::Directory::open(&options.cdi_dir).context("--cdi-dir")? },
        metrics: metrics.clone(),
        notices: notices.clone(),
    })?;

    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let (registered, is_registered) = watch::channel(false);
    let (published, is_published) = watch::channel(false);
    if let Http::At(address) = options.http {
        let listener = TcpListener::bind(address).await.with_context(|| format!("--http {address}"))?;
        info!(address = %listener.local_addr()?, "serving /healthz, /readyz and /metrics");
        let readiness = Readiness { registered: is_registered, published: is_published };
        let serving = http::serve(listener, readiness, metrics.clone(), stop.clone());
        tasks.spawn(async move { serving.await.context("HTTP server") });
    }
    let mut work = |part: BoxFuture<'static, ()>| {
        tasks.spawn(async move {
            part.await;
            Ok(())
        });
    };
    let publisher = Publisher {
        driver: driver.clone(),
        node: node.clone(),
        client: client.clone(),
        observed: observed.clone(),
        precedence: ledger.precedence(),
        ledger,
        metrics: metrics.clone(),
        notices: notices.clone(),
    };
    work(publisher.run(published, stop.clone()).boxed());
    work(watching.watch_over(metrics, notices.clone(), stop.clone()).boxed());
    work(events::write(client.clone(), node.clone(), events, stop.clone()).boxed());

    first_look(observed.clone()).await;

    // The DRA socket is served before the kubelet hears of it: it connects as soon as it does.
    let plugin = Plugin {
        driver: driver.to_string(),
        endpoint: socket.path().to_owned(),
        socket: directories.registration_socket(driver.as_str(), options.instance.as_deref()),
    };
    let claims = Arc::new(claims);
    let reconciler = Reconciler {
        identity: identity.clone(),
        claims: Arc::clone(&claims),
        client,
        pods: PodResources::new(&options.kubelet_dir),
        notices,
        interval: options.reconcile,
    };
    work(reconciler.run(stop.clone()).boxed());
    let dra = Dra::new(claims);
    let health = Health::new(identity.pool(), observed, stop.clone());
    let serving = Server::builder()
        .add_service(DraV1::new(dra.clone()))
        .add_service(DraV1Beta1::new(dra))
        .add_service(HealthV1::new(health.clone()))
        .add_service(HealthV1Alpha1::new(health))
        .serve_with_incoming_shutdown(socket.connections(), stop.clone().cancelled_owned());
    tasks.spawn(async move {
        // Lives as long as it is served.
        let _socket = socket;
        serving.await.context("DRA server")
    });
    let registering = register(plugin, registered, stop.clone());
    tasks.spawn(async move { registering.await.context("registration") });
    info!(%driver, node, version = env!("CARGO_PKG_VERSION"), "serving");

    let ended = tokio::select! {
        () = told_to_stop() => None,
        ended = tasks.join_next() => ended,
    };
    stop.cancel();
    // The registration goes at once, calls that are under way are finished.
    let rest = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_CALLS, rest).await.is_err() {
        warn!("calls of the kubelet were still under way; it will repeat them");
    }
    match ended {
        None => Ok(()),
        Some(Ok(Ok(()))) => bail!("a part of the agent ended by itself"),
        Some(Ok(Err(error))) => Err(error),
        Some(Err(panic)) => Err(panic).context("a part of the agent failed"),
    }
}

/// Waits until the hardware has been looked at, whatever came of it.
async fn first_look(mut observed: Observed) {
    if tokio::time::timeout(FIRST_LOOK, observed.wait_for(Option::is_some)).await.is_err() {
        warn!("the first look at the hardware takes long; serving without it");
    }
}

async fn told_to_stop() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        warn!("signals cannot be received; only a kill ends the agent");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => info!("told to stop"),
        _ = interrupt.recv() => info!("interrupted"),
    }
}
