//! `tessera-agent run`: what the node has once, and the drivers that are served with it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use futures::FutureExt;
use futures::future::BoxFuture;
use tessera_driver::tpu::NodeLabels;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::cli::{HardwareOptions, Http, LogFormat, RunOptions};
use crate::driver::Driver;
use crate::ledger::nobody_serves;
use crate::metrics::NodeMetrics;
use crate::node::Node;
use crate::pod_resources::PodResources;
use crate::readiness::Readiness;
use crate::serving::LAST_CALLS;
use crate::store::boot_id;
use crate::{api, backends, directories, events, http, layouts, notices, rounds, uevents};

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
    // One thread: a prepare waits for the API server most of its time, and being handed from one worker to another and
    // back is what it waits for besides. What takes long or blocks has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
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
    let name = hardware.node_name.clone().context("--node-name (or NODE_NAME) must name this node's Node object")?;
    let rows = backends::chosen(hardware)?;
    directories::check(&options.kubelet_dir)?;
    let readiness = Readiness::default();
    // Before anything else, since they bind their sockets.
    let drivers: Vec<_> = rows.into_iter().map(|row| Driver::begin(row, hardware, options, &readiness)).collect();
    let boot_id = boot_id()?;
    let client = api::client(options.kubeconfig.as_deref()).await?;
    clear_up(options)?;

    let metrics = NodeMetrics::new();
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    if let Http::At(address) = options.http {
        let listener = TcpListener::bind(address).await.with_context(|| format!("--http {address}"))?;
        info!(address = %listener.local_addr()?, "serving /healthz, /readyz and /metrics");
        let serving = http::serve(listener, readiness.clone(), metrics.clone(), stop.clone());
        tasks.spawn(async move { serving.await.context("HTTP server") });
    }
    let mut work = |part: BoxFuture<'static, ()>| {
        tasks.spawn(async move {
            part.await;
            Ok(())
        });
    };
    let (events, waiting) = notices::way();
    work(events::write(client.clone(), name.clone(), waiting, stop.clone()).boxed());
    let (round, rounds) = watch::channel(None);
    work(rounds::go(PodResources::new(&options.kubelet_dir), options.reconcile, round, stop.clone()).boxed());
    let uevents = uevents::listen().unwrap_or_else(|error| {
        info!(%error, "the kernel does not tell of devices here; they are looked at each --rescan second");
        watch::channel(0).1
    });

    let (hardware, options) = (hardware.clone(), options.clone());
    let labels = NodeLabels::default();
    let served: Vec<_> = drivers.iter().filter_map(Driver::wanted).cloned().collect();
    let (layouts, laying_out) = layouts::of_node(&client, &name, options.node_layouts, served.clone(), &stop);
    laying_out.into_iter().for_each(&mut work);
    let node = Arc::new(Node {
        name,
        boot_id,
        client,
        metrics,
        events,
        rounds,
        uevents,
        labels,
        layouts,
        readiness,
        hardware,
        options,
    });
    let served: Vec<_> = served.iter().map(ToString::to_string).collect();
    info!(node = node.name, version = env!("CARGO_PKG_VERSION"), drivers = served.join(" "), "started");
    for driver in drivers {
        tasks.spawn(driver.run(Arc::clone(&node), stop.clone()));
    }

    let ended = tokio::select! {
        () = told_to_stop() => None,
        ended = tasks.join_next() => ended,
    };
    stop.cancel();
    let rest = async { while tasks.join_next().await.is_some() {} };
    // Each driver has given its last calls as long; what is left then hangs.
    if tokio::time::timeout(LAST_CALLS + Duration::from_secs(1), rest).await.is_err() {
        warn!("a part of the agent does not end");
    }
    match ended {
        None => Ok(()),
        Some(Ok(Ok(()))) => bail!("a part of the agent ended by itself"),
        Some(Ok(Err(error))) => Err(error),
        Some(Err(panic)) => Err(panic).context("a part of the agent failed"),
    }
}

/// Removes what agents that died in the middle of a write left among the CDI specs; one that lives, whichever driver it
/// serves, may be about to use it.
fn clear_up(options: &RunOptions) -> anyhow::Result<()> {
    let specs = cdi::Directory::open(&options.cdi_dir).context("--cdi-dir")?;
    if nobody_serves(&options.state_dir) {
        specs.sweep().inspect_err(|error| warn!(%error, "cannot clear up the CDI directory")).ok();
    }
    Ok(())
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
