//! The life of a replica: it waits for the lease, leads, and ends when it may not lead any more.

use anyhow::{Context, anyhow};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;

use crate::admission::Webhook;
use crate::cli::{Http, LogFormat, Options};
use crate::lease::Candidate;
use crate::metrics::Metrics;
use crate::readiness::{Readiness, Role};
use crate::{admission, client, http, leading};

/// Runs until told to stop.
///
/// # Errors
/// What keeps the controller from starting, and that it may not lead any more: to be started again is how it goes on.
pub fn run(options: &Options) -> anyhow::Result<()> {
    log(options)?;
    // Before any client is made: the one TLS provider.
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow!("a TLS provider is installed already"))?;
    // One thread: it waits for the API server nearly all of its time.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no async runtime")?;
    runtime.block_on(serve(options))
}

fn log(options: &Options) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&options.log).with_context(|| {
        format!("--log {:?}: must be a level or a filter such as info,tessera_controller=debug", options.log)
    })?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match options.log_format {
        LogFormat::Text => subscriber.with_ansi(false).init(),
        LogFormat::Json => subscriber.json().init(),
    }
    Ok(())
}

async fn serve(options: &Options) -> anyhow::Result<()> {
    let client = client::client(options.kubeconfig.as_deref()).await?;
    let webhook = Webhook::of(options);
    let metrics = Metrics::new(webhook.as_ref().map(Webhook::metrics));
    let readiness = Readiness::new(webhook.as_ref().map(Webhook::readiness));
    let stop = CancellationToken::new();
    let _stops_with_this = stop.clone().drop_guard();
    let mut serving = None;
    if let Http::At(address) = options.http {
        let listener = TcpListener::bind(address).await.with_context(|| format!("--http {address}"))?;
        info!(address = %listener.local_addr()?, "serving /healthz, /readyz and /metrics");
        serving = Some(tokio::spawn(http::serve(listener, readiness.clone(), metrics.clone(), stop.clone())));
    }
    // The name of a pod stays when its container is started again.
    let identity = format!("{}_{:016x}", options.identity, fastrand::u64(..));
    info!(identity, version = env!("CARGO_PKG_VERSION"), "started");
    let candidate = Candidate::new(client.clone(), &options.namespace, &options.lease, identity, options.lease_seconds);

    let mut told = std::pin::pin!(told_to_stop());
    let judging = tokio::spawn(admission::serve(webhook, client.clone(), stop));
    let failed = async {
        let http = async {
            match serving {
                None => std::future::pending().await,
                Some(serving) => anyhow!("the HTTP server ended: {:?}", serving.await),
            }
        };
        tokio::select! {
            error = http => error,
            ended = judging => match ended {
                Ok(Err(error)) => anyhow!(error).context("the admission webhook"),
                other => anyhow!("the admission webhook ended: {other:?}"),
            },
        }
    };
    let mut failed = std::pin::pin!(failed);
    let mut held = tokio::select! {
        () = &mut told => return Ok(()),
        error = &mut failed => return Err(error),
        held = candidate.win(|| readiness.set(Role::Waiting)) => held,
    };
    readiness.set(Role::Leading);
    metrics.leads();
    let ended = tokio::select! {
        () = &mut told => Ok(()),
        error = &mut failed => Err(error),
        // Nothing is written from here on: what leads is dropped with the rest.
        lost = held.keep() => return Err(lost.into()),
        ended = leading::lead(&client, options, &metrics) => ended.and(Err(anyhow!("what leads ended by itself"))),
    };
    held.release().await;
    ended
}

async fn told_to_stop() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        warn!("signals cannot be received; only a kill ends the controller");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => info!("told to stop"),
        _ = interrupt.recv() => info!("interrupted"),
    }
}
