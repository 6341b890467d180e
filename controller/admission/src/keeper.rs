//! Keeps the certificates: in the Secret, in what is served, and in what API servers trust. Every replica does, and the
//! Secret's resourceVersion lets one of them be first.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::stream::{BoxStream, select};
use futures::{FutureExt, Stream, StreamExt};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::bundle::correction;
use crate::certificates::{Action, IssueError, Stored, what_to_do};
use crate::options::Options;

/// Who owns what is patched.
const MANAGER: &str = "tessera-admission";

/// There is a look this often, whatever the watches say.
const PAUSE: Duration = Duration::from_secs(60);
/// And no more often than this, whoever else writes there.
const SHORTEST: Duration = Duration::from_secs(1);
/// After a look that failed.
const RETRY: Duration = Duration::from_secs(5);
/// A look takes no longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// A watch whose connection died silently is noticed after this many seconds.
const WATCH_TIMEOUT: u32 = 240;
/// So often in one look another replica may be faster: there are no more actions than this from nothing to all.
const TRIES: usize = 4;

/// Why a look failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeeperError {
    /// The chart makes it, since the right to make one Secret is the right to make any.
    #[error("Secret {name} cannot be read; the chart brings it")]
    Secret {
        name: String,
        #[source]
        source: kube::Error,
    },
    #[error("Secret {name} cannot be written")]
    Write {
        name: String,
        #[source]
        source: kube::Error,
    },
    #[error("Secret {name} is written by somebody else again and again")]
    Contended { name: String },
    #[error("ValidatingWebhookConfiguration {name} cannot be told whom to trust")]
    Configuration {
        name: String,
        #[source]
        source: kube::Error,
    },
    #[error(transparent)]
    Issue(#[from] IssueError),
    #[error("the API server did not answer within {} s", PATIENCE.as_secs())]
    Silence,
}

pub(crate) struct Keeper<'a> {
    options: &'a Options,
    secrets: Api<Secret>,
    configurations: Api<ValidatingWebhookConfiguration>,
    served: watch::Sender<Option<Arc<CertifiedKey>>>,
    client: Client,
}

impl<'a> Keeper<'a> {
    pub(crate) fn new(options: &'a Options, client: Client, served: watch::Sender<Option<Arc<CertifiedKey>>>) -> Self {
        let secrets = Api::namespaced(client.clone(), &options.namespace);
        let configurations = Api::all(client.clone());
        Self { options, secrets, configurations, served, client }
    }

    /// Until stopped.
    pub(crate) async fn run(&self, stop: &CancellationToken) {
        let mut reasons = self.reasons();
        loop {
            let pause = match timeout(PATIENCE, self.look(SystemTime::now())).await.unwrap_or(Err(KeeperError::Silence))
            {
                Ok(until) => until.duration_since(SystemTime::now()).unwrap_or_default().clamp(SHORTEST, PAUSE),
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                    warn!(%error, cause, "the webhook's certificates are not as they should be");
                    RETRY
                }
            };
            let wait = async {
                sleep(SHORTEST).await;
                tokio::select! {
                    () = sleep(pause.saturating_sub(SHORTEST)) => {}
                    _ = reasons.next() => {}
                }
            };
            if stop.run_until_cancelled(wait).await.is_none() {
                return;
            }
            // Of many changes at once the next look sees the last.
            while reasons.next().now_or_never().flatten().is_some() {}
        }
    }

    /// Makes what is due, serves it and makes it known. Gives the time until which nothing more is due.
    pub(crate) async fn look(&self, now: SystemTime) -> Result<SystemTime, KeeperError> {
        let (stored, until) = self.settle(now).await?;
        let known = self.make_known(&stored.bundle()).await;
        // Even if it is not known: what was served before is no better then, and may be nothing.
        if let Some((key, expires)) = stored.served() {
            self.options.metrics.expires(expires);
            self.served.send_if_modified(|served| {
                let news = served.as_ref().is_none_or(|served| served.cert != key.cert);
                if news {
                    *served = Some(key);
                }
                news
            });
            self.options.readiness.reached();
        }
        known?;
        Ok(until)
    }

    /// The Secret as it is when nothing is due any more.
    async fn settle(&self, now: SystemTime) -> Result<(Stored, SystemTime), KeeperError> {
        let name = &self.options.secret;
        for _ in 0..TRIES {
            let secret =
                self.secrets.get(name).await.map_err(|source| KeeperError::Secret { name: name.clone(), source })?;
            let data = secret.data.clone().unwrap_or_default();
            let stored = Stored::read(&data, &self.options.names, now);
            let action = what_to_do(&stored, now);
            if let Action::Keep { until } = action {
                return Ok((stored, until));
            }
            let data = stored.after(action, &data, &self.options.names, now)?;
            // With the resourceVersion that was read: of several replicas one is first, and the others read what it wrote.
            match self.secrets.replace(name, &PostParams::default(), &Secret { data: Some(data), ..secret }).await {
                Ok(_) => info!(?action, "certificates of the webhook written"),
                Err(kube::Error::Api(status)) if status.code == 409 => debug!("another replica was faster"),
                Err(source) => return Err(KeeperError::Write { name: name.clone(), source }),
            }
        }
        Err(KeeperError::Contended { name: name.clone() })
    }

    async fn make_known(&self, bundle: &str) -> Result<(), KeeperError> {
        let name = &self.options.configuration;
        let failed = |source| KeeperError::Configuration { name: name.clone(), source };
        let configuration = self.configurations.get(name).await.map_err(failed)?;
        if let Some(patch) = correction(&configuration, bundle) {
            let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            match self.configurations.patch(name, &parameters, &Patch::Strategic(patch)).await {
                Ok(_) => info!(configuration = name, "told whom to trust"),
                // Whoever was faster is a reason for the next look.
                Err(kube::Error::Api(status)) if status.code == 409 => debug!("another replica was faster"),
                Err(source) => return Err(failed(source)),
            }
        }
        Ok(())
    }

    /// Tells of each change to either object, by whomever. Nothing of them but their metadata is watched.
    fn reasons(&self) -> BoxStream<'static, ()> {
        let secrets: Api<PartialObjectMeta<Secret>> = Api::namespaced(self.client.clone(), &self.options.namespace);
        let configurations: Api<PartialObjectMeta<ValidatingWebhookConfiguration>> = Api::all(self.client.clone());
        select(changes(secrets, &self.options.secret), changes(configurations, &self.options.configuration)).boxed()
    }
}

fn changes<K>(api: Api<K>, name: &str) -> impl Stream<Item = ()> + Send + use<K>
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let own = watcher::Config::default().fields(&format!("metadata.name={name}")).timeout(WATCH_TIMEOUT);
    watcher(api, own).default_backoff().filter_map(async |event| match event {
        Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_) | watcher::Event::InitDone) => Some(()),
        Ok(_) => None,
        Err(error) => {
            debug!(%error, "a watch is begun anew");
            None
        }
    })
}

#[cfg(test)]
mod tests;
