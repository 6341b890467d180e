//! What people and machines ask over HTTP: alive, ready, metrics.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// What has to be true before the node can be given work.
#[derive(Clone)]
pub(crate) struct Readiness {
    /// The kubelet has confirmed the registration.
    pub(crate) registered: watch::Receiver<bool>,
    /// The slices are as they should be.
    pub(crate) published: watch::Receiver<bool>,
}

#[derive(Clone)]
struct Shared {
    readiness: Readiness,
    metrics: Metrics,
}

/// Serves until stopped.
pub(crate) async fn serve(
    listener: TcpListener,
    readiness: Readiness,
    metrics: Metrics,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(encoded))
        .with_state(Shared { readiness, metrics });
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn ready(State(shared): State<Shared>) -> (StatusCode, String) {
    let registered = *shared.readiness.registered.borrow();
    let published = *shared.readiness.published.borrow();
    let code = if registered && published { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, format!("registered with the kubelet: {registered}\nslices published: {published}\n"))
}

async fn encoded(State(shared): State<Shared>) -> impl IntoResponse {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match shared.metrics.encode() {
        Ok(body) => (StatusCode::OK, [(header::CONTENT_TYPE, OPEN_METRICS)], body),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], error.to_string()),
    }
}
