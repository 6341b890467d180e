//! The kubelet's DRA service, v1 and v1beta1: the same messages, but for the share id that v1beta1 lacks.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::join_all;
use tessera_core::{Answer, ClaimRef};
use tessera_kubelet_api::{dra_v1, dra_v1beta1};
use tonic::{Request, Response, Status};
use tracing::error;

use crate::claims::{Claims, OperationError};

/// Serves both versions.
#[derive(Clone)]
pub(crate) struct Dra {
    claims: Arc<Claims>,
}

impl Dra {
    pub(crate) fn new(claims: Arc<Claims>) -> Self {
        Self { claims }
    }

    /// Prepares claims side by side: several cost one round trip to the API server, and one that fails, or even
    /// panics, does so alone.
    async fn prepare(&self, claims: Vec<Named>) -> BTreeMap<String, Result<Vec<Answer>, String>> {
        each(claims, |claim| {
            let claims = Arc::clone(&self.claims);
            async move { claims.prepare(&claim).await }
        })
        .await
    }

    async fn unprepare(&self, claims: Vec<Named>) -> BTreeMap<String, Result<(), String>> {
        each(claims, |claim| {
            let claims = Arc::clone(&self.claims);
            async move { claims.unprepare(&claim).await }
        })
        .await
    }
}

/// A claim as it comes from the wire: namespace, name, UID.
type Named = (String, String, String);

/// The API server cuts the text of an event; what is beyond helps nobody.
const EVENT_LENGTH: usize = 255;

async fn each<T, F>(claims: Vec<Named>, work: impl Fn(ClaimRef) -> F) -> BTreeMap<String, Result<T, String>>
where
    T: Send + 'static,
    F: Future<Output = Result<T, OperationError>> + Send + 'static,
{
    let one = |(namespace, name, uid): Named| {
        let work = uid.parse().map(|uid| work(ClaimRef { namespace, name, uid }));
        async move {
            let result = match work {
                Err(error) => Err(error.to_string()),
                Ok(work) => match by_itself(work).await {
                    Some(result) => result.map_err(|error| error.to_string()),
                    None => {
                        error!(uid, "a panic while working on a claim");
                        Err(OperationError::Internal.to_string())
                    }
                },
            };
            (uid, result.map_err(|text| text.chars().take(EVENT_LENGTH).collect()))
        }
    };
    join_all(claims.into_iter().map(one)).await.into_iter().collect()
}

/// Carries work out to its end, once it has begun. `None` after a panic, which stays in it.
///
/// Work that has to wait gets a task of its own, since a call that the kubelet gives up would leave it where it stands,
/// maybe between two steps. Repeated calls and the undoing wait for nothing most times: a task would be one more turn of
/// the runtime for them, and no more.
async fn by_itself<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Option<T> {
    // Nothing of the work is used after a panic; what it shares with others bears that.
    let mut work = AssertUnwindSafe(work).catch_unwind().boxed();
    match work.as_mut().now_or_never() {
        Some(done) => done.ok(),
        None => tokio::spawn(work).await.ok()?.ok(),
    }
}

/// Implements the service of one version of the protocol, whose devices have these fields besides the common ones.
macro_rules! serve {
    ($api:ident $(, $field:ident)*) => {
        #[tonic::async_trait]
        impl $api::dra_plugin_server::DraPlugin for Dra {
            async fn node_prepare_resources(
                &self,
                request: Request<$api::NodePrepareResourcesRequest>,
            ) -> Result<Response<$api::NodePrepareResourcesResponse>, Status> {
                let named =
                    request.into_inner().claims.into_iter().map(|claim| (claim.namespace, claim.name, claim.uid));
                let device = |prepared: Answer| $api::Device {
                    request_names: prepared.requests,
                    pool_name: prepared.pool,
                    device_name: prepared.device.to_string(),
                    cdi_device_ids: prepared.cdi_ids,
                    $($field: prepared.$field,)*
                };
                let answer = |(uid, result)| {
                    let answer = match result {
                        Ok(devices) => $api::NodePrepareResourceResponse {
                            devices: Vec::into_iter(devices).map(device).collect(),
                            error: String::new(),
                        },
                        Err(error) => $api::NodePrepareResourceResponse { devices: Vec::new(), error },
                    };
                    (uid, answer)
                };
                let claims = self.prepare(named.collect()).await.into_iter().map(answer).collect();
                Ok(Response::new($api::NodePrepareResourcesResponse { claims }))
            }

            async fn node_unprepare_resources(
                &self,
                request: Request<$api::NodeUnprepareResourcesRequest>,
            ) -> Result<Response<$api::NodeUnprepareResourcesResponse>, Status> {
                let named =
                    request.into_inner().claims.into_iter().map(|claim| (claim.namespace, claim.name, claim.uid));
                let answer = |(uid, result): (String, Result<(), String>)| {
                    (uid, $api::NodeUnprepareResourceResponse { error: result.err().unwrap_or_default() })
                };
                let claims = self.unprepare(named.collect()).await.into_iter().map(answer).collect();
                Ok(Response::new($api::NodeUnprepareResourcesResponse { claims }))
            }
        }
    };
}

serve!(dra_v1, share_id);
serve!(dra_v1beta1);

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_is_carried_out() {
        let (go, gone) = oneshot::channel();
        let (tell, told) = oneshot::channel();
        let call = by_itself(async move {
            gone.await.unwrap();
            tell.send("done").unwrap();
        });
        assert_eq!(call.now_or_never(), None, "it waits, and is given up");
        go.send(()).unwrap();
        assert_eq!(told.await, Ok("done"));
    }

    #[tokio::test]
    async fn a_panic_stays_in_the_work() {
        assert_eq!(by_itself(async { panic!("at once") }).await, None::<()>);
        let later = async {
            tokio::task::yield_now().await;
            panic!("after it has waited")
        };
        assert_eq!(by_itself(later).await, None::<()>);
        assert_eq!(by_itself(async { 7 }).await, Some(7));
    }
}
