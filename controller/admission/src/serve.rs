use std::net::SocketAddr;
use std::sync::Arc;

use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::keeper::Keeper;
use crate::options::Options;
use crate::review::Reviewer;
use crate::server::{self, Desk};
use crate::tls;

/// Why the webhook cannot be served at all. Whatever else goes wrong is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Somebody else has it, or it is no address of this machine.
    #[error("cannot listen on {address}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The process's TLS provider is not fit.
    #[error("cannot serve TLS")]
    Tls(#[source] rustls::Error),
}

/// Serves the webhook until stopped, with certificates that it makes and renews itself. Any number of replicas may.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve(options: Options, client: Client, stop: CancellationToken) -> Result<(), ServeError> {
    let address = options.address;
    let listener = TcpListener::bind(address).await.map_err(|source| ServeError::Address { address, source })?;
    let (sender, served) = watch::channel(None);
    let config = Arc::new(tls::config(served).map_err(ServeError::Tls)?);
    let reviewer = Reviewer { drivers: options.drivers.clone(), check_policy: options.check_policy };
    let router = server::router(Desk { reviewer: Arc::new(reviewer), metrics: options.metrics.clone() });
    info!(%address, "the admission webhook is served");
    let keeper = Keeper::new(&options, client, sender);
    tokio::join!(keeper.run(&stop), server::serve(listener, config, router, &stop));
    Ok(())
}

#[cfg(test)]
mod tests;
