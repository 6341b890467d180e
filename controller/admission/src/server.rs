//! HTTPS for API servers, which speak HTTP/2 and keep their connections.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::metrics::{Metrics, Outcome};
use crate::review::{Reviewer, Subject};

/// Two objects of the most that an API server takes, 3 MiB each, and what is around them.
const LIMIT: usize = 8 << 20;
/// API servers wait for ten seconds by default, and the chart has them wait for less.
const BODY: Duration = Duration::from_secs(10);
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEADERS: Duration = Duration::from_secs(30);
/// A connection that died silently is noticed after this and another of it.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// More than all API servers of a cluster have. Whoever else can reach the port takes no more memory than this.
const CONNECTIONS: usize = 256;
/// How long requests may take that came before the end.
const END: Duration = Duration::from_secs(10);

/// What a request is answered with.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) reviewer: Arc<Reviewer>,
    pub(crate) metrics: Metrics,
}

pub(crate) fn router(desk: Desk) -> Router {
    Router::new().route("/validate", post(validate)).with_state(desk)
}

/// Serves until stopped, and then until what has come is answered.
pub(crate) async fn serve(listener: TcpListener, tls: Arc<ServerConfig>, router: Router, stop: &CancellationToken) {
    let acceptor = TlsAcceptor::from(tls);
    let connections = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let next = async || {
        // Never closed, so there is always one some time.
        let place = Arc::clone(&places).acquire_owned().await.ok();
        (place, listener.accept().await)
    };
    while let Some((place, accepted)) = stop.run_until_cancelled(next()).await {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            // Out of file descriptors, as a rule: others free them.
            Err(error) => {
                warn!(%error, "a connection to the webhook was not accepted");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (acceptor, router, watcher, stop) = (acceptor.clone(), router.clone(), connections.watcher(), stop.clone());
        tokio::spawn(async move {
            if let Err(error) = attend(stream, acceptor, router, watcher, &stop).await {
                debug!(error, "a connection to the webhook ended");
            }
            drop(place);
        });
    }
    drop(listener);
    if timeout(END, connections.shutdown()).await.is_err() {
        warn!("calls of the webhook were cut off");
    }
}

async fn attend(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: Router,
    watcher: Watcher,
    stop: &CancellationToken,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // Answers are small, and waited for.
    stream.set_nodelay(true)?;
    let Some(shaken) = stop.run_until_cancelled(timeout(HANDSHAKE, acceptor.accept(stream))).await else {
        return Ok(());
    };
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(KEEPALIVE).keep_alive_timeout(KEEPALIVE);
    let service = TowerToHyperService::new(router);
    watcher.watch(builder.serve_connection(TokioIo::new(shaken??), service).into_owned()).await
}

async fn validate(State(desk): State<Desk>, request: Request) -> Response {
    let body = match timeout(BODY, to_bytes(request.into_body(), LIMIT)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            return (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large, or was cut off\n").into_response();
        }
        Err(_) => return StatusCode::REQUEST_TIMEOUT.into_response(),
    };
    let started = Instant::now();
    match desk.reviewer.review(&body) {
        Ok(answer) => {
            let outcome = match (&answer.verdict.errors[..], &answer.verdict.warnings[..]) {
                ([], []) => Outcome::Allowed,
                ([], _) => Outcome::Warned,
                _ => Outcome::Refused,
            };
            desk.metrics.judged(answer.subject, outcome, started.elapsed());
            ([(header::CONTENT_TYPE, "application/json")], answer.body).into_response()
        }
        Err(error) => {
            desk.metrics.judged(Subject::Other, Outcome::Unreadable, started.elapsed());
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            error!(%error, cause, "a review was not answered");
            (StatusCode::BAD_REQUEST, format!("{error}{cause}\n")).into_response()
        }
    }
}
