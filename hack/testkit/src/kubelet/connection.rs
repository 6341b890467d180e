//! The kubelet's one lasting connection to a plugin's DRA socket.

use std::io;
use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use tokio::io::{copy_bidirectional, duplex};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use super::pace::{self, Pace};

/// How a connection is.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// Not there yet; a call waits for what comes of it.
    Connecting,
    /// There, until it turns out to be lost.
    Ready(Channel),
    /// The last try failed, and the next one is due later; a call fails at once.
    Failed,
}

impl State {
    pub(super) fn is_ready(&self) -> bool {
        matches!(self, Self::Ready(_))
    }
}

/// Connects at once and, after each loss, again, without a call being needed for it. `changed` is called after each
/// change. Closed by `stop`, together with the calls that are under way.
pub(super) fn keep(
    endpoint: PathBuf,
    pace: Pace,
    stop: CancellationToken,
    changed: impl Fn() + Send + Sync + 'static,
) -> watch::Receiver<State> {
    let (state, watched) = watch::channel(State::Connecting);
    tokio::spawn(async move {
        let connecting = async {
            let mut pause = pace::RECONNECT_FIRST;
            loop {
                match connect(&endpoint, stop.clone()).await {
                    Ok((channel, lost)) => {
                        state.send_replace(State::Ready(channel));
                        changed();
                        lost.cancelled().await;
                        state.send_replace(State::Connecting);
                        changed();
                        pause = pace::RECONNECT_FIRST;
                    }
                    Err(_) => {
                        state.send_replace(State::Failed);
                        changed();
                        tokio::time::sleep(pace.pause(pause)).await;
                        pause = pause.mul_f64(pace::RECONNECT_FACTOR).min(pace::RECONNECT_LAST);
                    }
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = connecting => {}
        }
    });
    watched
}

/// A channel over one connection, and what is cancelled when that is lost. A channel of tonic's own making would connect
/// again only for the next call, and tell nobody.
async fn connect(
    endpoint: &Path,
    stop: CancellationToken,
) -> Result<(Channel, CancellationToken), Box<dyn std::error::Error + Send + Sync>> {
    let mut stream = UnixStream::connect(endpoint).await?;
    let (near, mut far) = duplex(1 << 16);
    let lost = CancellationToken::new();
    let guard = lost.clone().drop_guard();
    tokio::spawn(async move {
        let _guard = guard;
        tokio::select! {
            () = stop.cancelled() => {}
            _ = copy_bidirectional(&mut stream, &mut far) => {}
        }
    });
    let mut near = Some(near);
    let connector = tower::service_fn(move |_| {
        let connection = near.take().map(TokioIo::new).ok_or_else(|| io::Error::other("the connection is lost"));
        std::future::ready(connection)
    });
    let endpoint = Endpoint::from_static("http://localhost").timeout(pace::OPERATION);
    Ok((endpoint.connect_with_connector(connector).await?, lost))
}
