//! The kubelet's health stream, v1 and v1alpha1: what it says ends up in the status of pods.

use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::{Stream, StreamExt, stream};
use tessera_core::{Condition, Identity};
use tessera_kubelet_api::{health_v1, health_v1alpha1};
use tessera_vocabulary::{DeviceName, domain_pool};
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::hardware::Observed;

/// The kubelet forgets a device that was not reported for this long.
const LEASE: Duration = Duration::from_secs(30);
/// So everything is said again well before that.
const REPEAT: Duration = Duration::from_secs(10);

/// Serves both versions.
#[derive(Clone)]
pub(crate) struct Health {
    identity: Identity,
    observed: Observed,
    stop: CancellationToken,
}

impl Health {
    pub(crate) fn new(identity: Identity, observed: Observed, stop: CancellationToken) -> Self {
        Self { identity, observed, stop }
    }

    /// Says everything at once, then at each change and every ten seconds. A slow kubelet gets the newest state, not
    /// a queue of old ones. Of a fabric domain each node says how its own part is, which is what its pods have.
    fn reports(&self) -> impl Stream<Item = Vec<Report>> + Send + use<> {
        let changes = WatchStream::new(self.observed.clone()).map(|_| ());
        let repeats = stream::unfold((), |()| async {
            tokio::time::sleep(REPEAT).await;
            Some(((), ()))
        });
        let (observed, identity) = (self.observed.clone(), self.identity.clone());
        stream::select(changes, repeats).map(move |()| {
            let inventory = observed.borrow().clone().unwrap_or_default();
            let own = inventory.names().map(|(device, condition)| Report::new(identity.pool(), &device, condition));
            let of_domain = |(device, condition): (&DeviceName, &Condition)| {
                Report::new(domain_pool(&identity.driver, device), device, condition)
            };
            own.chain(inventory.domains().into_iter().map(of_domain)).collect()
        })
    }
}

/// What is said about one device.
struct Report {
    pool: String,
    device: String,
    trouble: Option<String>,
}

impl Report {
    fn new(pool: String, device: &DeviceName, condition: &Condition) -> Self {
        let trouble = match condition {
            Condition::Ready => None,
            Condition::Lost { cause } => Some(cause.clone()),
        };
        Self { pool, device: device.to_string(), trouble }
    }
}

/// Implements the service of one version of the protocol.
macro_rules! serve {
    ($api:ident) => {
        #[tonic::async_trait]
        impl $api::dra_resource_health_server::DraResourceHealth for Health {
            type NodeWatchResourcesStream =
                Pin<Box<dyn Stream<Item = Result<$api::NodeWatchResourcesResponse, Status>> + Send>>;

            async fn node_watch_resources(
                &self,
                _: Request<$api::NodeWatchResourcesRequest>,
            ) -> Result<Response<Self::NodeWatchResourcesStream>, Status> {
                let device = |report: Report| $api::DeviceHealth {
                    device: Some($api::DeviceIdentifier { pool_name: report.pool, device_name: report.device }),
                    health: match report.trouble {
                        None => $api::HealthStatus::Healthy.into(),
                        Some(_) => $api::HealthStatus::Unhealthy.into(),
                    },
                    last_updated_time: unix_seconds(),
                    health_check_timeout_seconds: LEASE.as_secs().cast_signed(),
                    message: report.trouble.unwrap_or_default(),
                };
                let answer = move |reports: Vec<Report>| {
                    Ok($api::NodeWatchResourcesResponse { devices: reports.into_iter().map(device).collect() })
                };
                // A stream without an end would keep the server from stopping.
                let stopped = self.stop.clone().cancelled_owned();
                Ok(Response::new(Box::pin(self.reports().map(answer).take_until(stopped))))
            }
        }
    };
}

serve!(health_v1);
serve!(health_v1alpha1);

fn unix_seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed())
}

#[cfg(test)]
mod tests {
    use tessera_core::Inventory;
    use tessera_vocabulary::DriverName;
    use tokio::sync::watch;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn everything_is_said_at_once_and_again_and_again() {
        let (_told, observed) = watch::channel(Some(Inventory::default()));
        let identity = Identity::new(DriverName::nvidia_gpu(), "node-1".to_owned(), "boot".to_owned()).unwrap();
        let health = Health::new(identity, observed, CancellationToken::new());
        let start = tokio::time::Instant::now();
        let mut reports = std::pin::pin!(health.reports());
        let mut seconds = Vec::new();
        for _ in 0..3 {
            assert!(reports.next().await.is_some());
            seconds.push(start.elapsed().as_secs());
        }
        assert_eq!(seconds, [0, 10, 20]);
    }
}
